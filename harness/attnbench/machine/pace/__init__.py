"""How fast the machine is: its peaks, and how its pace drifts."""
