"""The clients that the checks use, and the requests that most of them make."""

from dataclasses import dataclass

from openai import AsyncOpenAI, OpenAI

SECONDS = 120.0
NO_KEY = "none"  # the client insists on a key; a server without keys takes any
PROMPT = "ROMEO:\n"
QUESTION = "What light through yonder window breaks?"


@dataclass(frozen=True)
class Server:
    """Where the server is and what it calls the model."""

    url: str
    model: str
    key: str = NO_KEY

    def client(self, retries: int = 0) -> OpenAI:
        """A client that tries again so many times."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=retries, timeout=SECONDS)

    def async_client(self, retries: int = 0) -> AsyncOpenAI:
        """The same for coroutines."""
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=retries, timeout=SECONDS)
