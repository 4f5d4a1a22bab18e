"""What LLM2Vec's published evaluation puts before the queries of each MTEB task.

Source: the reference's task list (McGill-NLP/llm2vec, MIT licence, test_configs/mteb/task_to_instructions.json); tasks it lacks
take MTEB's own prompt, ended by a colon, as the reference's evaluation does.
"""

_DUPLICATES = (
    "Given a question, retrieve detailed question descriptions from Stackexchange that are duplicates to the given question:"
)
# the parts of CQADupstack
_FORUMS = (
    *("Android", "English", "Gaming", "Gis", "Mathematica", "Physics"),
    *("Programmers", "Stats", "Tex", "Unix", "Webmasters", "Wordpress"),
)

TASK_INSTRUCTIONS = {
    "ArguAna": "Given a claim, find documents that refute the claim:",
    "ClimateFEVER": "Given a claim about climate change, retrieve documents that support or refute the claim:",
    "DBPedia": "Given a query, retrieve relevant entity descriptions from DBPedia:",
    "FEVER": "Given a claim, retrieve documents that support or refute the claim:",
    "FiQA2018": "Given a financial question, retrieve user replies that best answer the question:",
    "HotpotQA": "Given a multi-hop question, retrieve documents that can help answer the question:",
    "MSMARCO": "Given a web search query, retrieve relevant passages that answer the query:",
    "NFCorpus": "Given a question, retrieve relevant documents that best answer the question:",
    "NQ": "Given a question, retrieve Wikipedia passages that answer the question:",
    "QuoraRetrieval": "Given a question, retrieve questions that are semantically equivalent to the given question:",
    "SCIDOCS": "Given a scientific paper title, retrieve paper abstracts that are cited by the given paper:",
    "STS16": "Retrieve semantically similar text:",
    "SciFact": "Given a scientific claim, retrieve documents that support or refute the claim:",
    "TRECCOVID": "Given a query on COVID-19, retrieve documents that answer the query:",
    "Touche2020": "Given a question, retrieve detailed and persuasive arguments that answer the question:",
    **{f"CQADupstack{forum}Retrieval": _DUPLICATES for forum in _FORUMS},
}


def with_colon(prompt: str) -> str:
    """A task's prompt as LLM2Vec reads it: without a full stop, ended by a colon; "" stays ""."""
    return prompt if not prompt or prompt.endswith(":") else f"{prompt.strip('.')}:"
