"""A preview as a comment for whoever reviews the change: `python -m components.review --stack NAME`."""

from components.review.comment import commented, marker
from components.review.events import LogError, read_log

__all__ = ["LogError", "commented", "marker", "read_log"]
