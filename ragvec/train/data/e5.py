"""The instructions of the E5 mix, the reference's supervised training data: one .jsonl file for each data set."""

_WIKIPEDIA = "Given a question, retrieve Wikipedia passages that answer the question"
_CHINESE = "Given a Chinese search query, retrieve web passages that answer the question"

_TASKS: dict[str, list[str]] = {
    "allnli": [
        "Given a premise, retrieve a hypothesis that is entailed by the premise",
        "Retrieve semantically similar text",
    ],
    "dureader": [_CHINESE],
    "eli5_question_answer": ["Provided a user question, retrieve the highest voted answers on Reddit ELI5 forum"],
    "fever": ["Given a claim, retrieve documents that support or refute the claim"],
    "hotpot_qa": ["Given a multi-hop question, retrieve documents that can help answer the question"],
    "miracl": [_WIKIPEDIA],
    "mrtydi": [_WIKIPEDIA],
    "msmarco_passage": ["Given a web search query, retrieve relevant passages that answer the query"],
    "msmarco_document": ["Given a web search query, retrieve relevant documents that answer the query"],
    "nq": [_WIKIPEDIA],
    "quora_duplicates": [
        "Given a question, retrieve questions that are semantically equivalent to the given question",
        "Find questions that have the same meaning as the input question",
    ],
    "squad": ["Retrieve Wikipedia passages that answer the question"],
    "t2ranking": [_CHINESE],
    "trivia_qa": ["Retrieve Wikipedia passages that answer the question"],
}
# As the reference writes them before a text: "instruction; text". Where a set has several they take turns, row by row.
E5_INSTRUCTIONS = {name: [f"{task};" for task in tasks] for name, tasks in _TASKS.items()}
E5_SYMMETRIC = ("allnli", "quora_duplicates")
