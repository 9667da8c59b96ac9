"""A load test of a server that speaks OpenAI's API: what is sent, when, and what the answers' times say."""
