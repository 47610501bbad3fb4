"""Where the time of a call goes: samples of the program counter, what lies there, and which phase that is."""
