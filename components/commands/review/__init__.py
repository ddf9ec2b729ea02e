"""Write a preview as a comment for the reviewer of a change: `python -m components.commands.review --stack NAME`."""

from components.commands.review.comment import commented, marker
from components.commands.review.events import LogError, read_log

__all__ = ["LogError", "commented", "marker", "read_log"]
