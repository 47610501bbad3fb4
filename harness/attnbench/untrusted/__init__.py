"""What strangers' files and plug-ins hold is data: parsed within bounds, shown without effect."""
