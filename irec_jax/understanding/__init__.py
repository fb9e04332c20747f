"""From the words of a request to conditions on the catalog."""
