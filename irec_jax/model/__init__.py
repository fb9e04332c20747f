"""The T5 family as plain functions of a parameter dict."""
