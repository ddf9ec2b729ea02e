"""What is run beside the program: `python -m components.commands.status`, and the review of a preview's output."""
