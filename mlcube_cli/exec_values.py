"""What an MLBox `exec` task's `parameters_file` says, as the variables of its shell lines (spec/dialects 1.3)."""

from __future__ import annotations

from dataclasses import replace

from mlcube_cli.definition.model import Data
from mlcube_cli.definition.source import Document, parse_document
from mlcube_cli.facts import Facts
from mlcube_cli.job import Job

PARAMETERS_FILE = "parameters_file"


def with_variables(job: Job, facts: Facts) -> Job:
    """The job with the keys of its parameters file; unchanged for any other kind of job, and where there is no file.

    Texts and numbers stay as written, null is empty, lists and maps are JSON. Raises DefinitionError when the file is no
    YAML, facts.Missing when it was not read yet.
    """
    if job.platform.option("kind") != "exec":
        return job
    path = next((argument.host_path for argument in job.paths if argument.name == PARAMETERS_FILE), None)
    text = facts.text(path) if path else None
    if path is None or text is None:
        return job
    document = parse_document(text, path)
    values = document.data if isinstance(document.data, dict) else {}
    return replace(job, variables=tuple((key, _text(document, key, value)) for key, value in values.items()))


def _text(document: Document, key: str, value: Data) -> str:
    if isinstance(value, (list, dict)):
        import json

        return json.dumps(value)
    return document.text((key,)) or ""
