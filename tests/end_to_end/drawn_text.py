"""A text of tiny-llama3 that is drawn by a seed: the same from every server that has it alone."""

MODEL = "tiny-llama3"
ALONE = ("--max-batch", "1")  # company in a pass may change a sum's last bits, and tip a draw
PROMPT = "This function returns the value of the given name. " * 12
DRAWN = {"max_tokens": 40, "temperature": 1.2, "top_k": 50, "seed": 11}


async def text_of(pieces) -> str:
    return "".join([piece async for piece in pieces])


async def text_across(client, happens) -> str:
    """The drawn text; what happens does once its first piece has come."""
    pieces = client.generate(PROMPT, **DRAWN)
    text = await anext(pieces)
    happens()
    return text + await text_of(pieces)
