"""Strangers' files and plug-ins are data: parsed within bounds, shown without effect."""
