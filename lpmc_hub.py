"""What the client of the Hugging Face Hub raises, as one line for the person at the keyboard, with no token in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb

from lpmc_errors import LpmcError

SIGN_IN = "sign in with `hf auth login`, or set HF_TOKEN to a token that may write there"

_TOKEN = re.compile(r"hf_\w+")
_QUERY = re.compile(r"(?<=\w)\?[^\s'\"<>]+")


class HubError(LpmcError):
    """The Hub refused, could not be reached, or holds something that a push would damage."""


def without_secrets(text: str) -> str:
    """One line of a client's message, without tokens and without the queries of addresses, which may be signatures."""
    return _TOKEN.sub("hf_...", _QUERY.sub("", " ".join(text.split())))


@contextmanager
def hub_faults_named(repo_id: str, token: str | None) -> Iterator[None]:
    """Turn what the client raises into `HubError`, with the remedy; other errors pass through.

    `token` is the one in use where it is given; else the stored one is kept out of the line.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    token = token or get_token()

    def said(error: Exception) -> str:
        text = (error.server_message if isinstance(error, HfHubHTTPError) else None) or str(error)
        return without_secrets(text.replace(token, "hf_...") if token else text)

    try:
        yield
    except UnicodeEncodeError:  # of the header that carries it
        raise HubError(repo_id, "the token holds characters that no token has", SIGN_IN) from None
    except LpmcError as error:
        if token and token in str(error):
            raise HubError(repo_id, str(error).replace(token, "hf_...")) from None
        raise
    except OfflineModeIsEnabled as error:
        raise HubError(repo_id, "HF_HUB_OFFLINE is set", "unset it to publish") from error
    except LocalTokenNotFoundError as error:
        raise HubError(repo_id, "no token was found", SIGN_IN) from error
    except GatedRepoError as error:
        raise HubError(repo_id, "is gated and your account has no access", "ask for access on its page") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401:
            raise HubError(repo_id, "the Hub does not know the token, or none was given (401)", SIGN_IN) from error
        if status == 403:
            raise HubError(repo_id, "your token may not write there (403)", SIGN_IN) from error
        if isinstance(error, RepositoryNotFoundError) or status == 404:
            raise HubError(repo_id, "not found on the Hub, or not visible with this token (404)", SIGN_IN) from error
        raise HubError(repo_id, f"the Hub answered {status}: {said(error)}", "try again later") from error
    except (HTTPError, ConnectionError) as error:
        raise HubError(
            repo_id, f"the Hub cannot be reached ({said(error)})", "check the network and HF_ENDPOINT"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # no JSON, or JSON of something else
        if not _raised_in_client(error):
            raise
        raise HubError(
            repo_id,
            f"what answered for the Hub is not the Hub ({type(error).__name__}), a page to sign in perhaps",
            "check the network and HF_ENDPOINT",
        ) from error


def _raised_in_client(error: Exception) -> bool:
    """Whether the Hub's client could make nothing of an answer; anywhere else it is a fault of ours."""
    return any("huggingface_hub" in Path(frame.f_code.co_filename).parts for frame, _ in walk_tb(error.__traceback__))
