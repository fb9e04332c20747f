"""One file a source; each asserts the published counts that it knows."""
