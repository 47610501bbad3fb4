"""The result of a gate as text, Markdown, JUnit, annotations and exports."""
