"""Instructions: scenarios, templates, tasks and the rendered instructions."""
