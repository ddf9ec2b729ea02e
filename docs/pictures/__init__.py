"""Pictures of the documents, each made from a text source beside it."""
