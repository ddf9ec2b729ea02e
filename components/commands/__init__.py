"""The commands beside the program: `python -m components.commands.status` and others, and the review of a preview's output."""
