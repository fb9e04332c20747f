"""The HTML page of a report: its template and its rendering."""
