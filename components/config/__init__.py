"""The stack's configuration: its keys as pydantic models, the checks across keys, and the documents made from the models.

    models.py          every key: type, range, default, description
    rules.py           how a key's text, choice or mapping by name is checked
    reader.py          plain values -> Settings, and every error of a run
    messages.py        pydantic's errors -> `WHERE: PROBLEM. FIX.`
    aws_keys.py        the keys `aws:…` that are not plain text
    checks.py          what needs more than one key to check
    namespaces.py      what the names of the keys show: a misspelt namespace, a secret in plain text
    stack_file.py      `Pulumi.<stack>.yaml` as the engine reads it
    reference_docs.py  docs/configuration.md and the JSON Schema for editors

The package imports the agent's shared modules, and of components/ only the escaping of text and the floors of record
sets.
"""
