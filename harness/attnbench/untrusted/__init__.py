"""Files and plug-ins from others are treated as data: parsed within bounds, and displayed without side effects."""
