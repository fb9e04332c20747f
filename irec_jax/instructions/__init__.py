"""What is asked: scenarios, templates, tasks and the rendered instructions."""
