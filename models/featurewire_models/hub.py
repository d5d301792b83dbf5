"""A hub id goes in; the folder of the files asked for comes out, or one sentence on why not."""

from __future__ import annotations

from http.client import UNAUTHORIZED
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.errors import HTTPError as HTTPError  # type: ignore[attr-defined]  # httpx's

from featurewire_models.errors import SourceError, one_line

LOGIN = "log in with `hf auth login` or set HF_TOKEN"


def download(repo_id: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    """The hub's files of those patterns in the local cache; the folder is named by the commit.

    What lies there already is not fetched again. Raises SourceError.
    """
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(patterns)))
    except (HfHubHTTPError, HFValidationError, HTTPError, OSError, ValueError) as error:
        raise SourceError(_sentence(repo_id, revision, error)) from error


def _sentence(repo_id: str, revision: str | None, error: Exception) -> str:
    """What is wrong, and what to do."""
    if isinstance(error, GatedRepoError):
        return (
            f"{repo_id} is gated: ask for access at {constants.ENDPOINT}/{repo_id}, then {LOGIN}."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"The hub's {repo_id} has no branch, tag or commit {revision or 'main'!r}."
    unknown = f"{repo_id} is no bundled model and no local folder"
    if isinstance(error, RepositoryNotFoundError):
        return f"{unknown}, and the hub has none of that name; if it is private, {LOGIN}."
    answer = next((e for e in (error, error.__cause__) if isinstance(e, HfHubHTTPError)), None)
    if answer is not None and answer.response.status_code == UNAUTHORIZED:
        return f"{unknown}, and the hub refuses the token that it was given: {LOGIN} anew."
    answered = answer is not None
    if isinstance(error, (LocalEntryNotFoundError, HTTPError)) and not answered:
        at = f" at {revision}" if revision else ""
        return (
            f"{unknown}, and the hub cannot be reached for what the cache lacks of it{at}; connect "
            "to the network, or give a folder that holds it."
        )
    return f"{unknown}, and the hub does not give it ({one_line(error.__cause__ or error)})."
