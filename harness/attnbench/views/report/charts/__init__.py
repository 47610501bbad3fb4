"""Charts: specifications for Vega-Lite, and their rendering to SVG and PNG."""
