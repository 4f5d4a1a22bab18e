"""Words that tell groups of texts from one another: names for topics, and things to ask an index."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from math import log
from typing import TYPE_CHECKING

from ragvec.index.words.analysis import folded, is_run, pairs, terms
from ragvec.index.words.language import KOREAN, NO_STEMMER, analyzer, function_words
from ragvec.index.words.morphemes import morphemes

if TYPE_CHECKING:
    import tantivy

READ = 1000  # characters of each text
SHORTEST, LONGEST = 3, 24  # letters of a word
LONGEST_BEGINNING = 8  # syllables
AGAIN = 3  # times as much counts a word in a text that holds it again: what a text is about is in its title, and comes again
FEW = 5  # texts of a group, from which on a word of one alone says nothing of the group
# Korean words that say nothing, as they are found without morphemes
_UNSAID_KOREAN = frozenset(
    [
        "있다",
        "있는",
        "없다",
        "없는",
        "하는",
        "한다",
        "했다",
        "하고",
        "하여",
        "해서",
        "된다",
        "되는",
        "되어",
        "이다",
        "같은",
        "같이",
        "그리고",
        "그러나",
        "또한",
        "또는",
        "때문",
        "위해",
        "위한",
        "대한",
        "대해",
        "통해",
        "따라",
        "가장",
        "매우",
        "모든",
        "이런",
        "그런",
        "어떤",
        "것은",
        "것이",
        "것을",
        "수도",
        "경우",
        "년에",
        "때는",
        "사이",
        "동안",
        "많이",
        "않는",
        "않는다",
        "만들",
    ]
)
_HANGUL = ("가", "힣")
_PARTICLES = frozenset("은는이가을를의에도만과와로")


def telling_words(groups: Sequence[Sequence[str]], *, language: str, most: int) -> list[list[str]]:
    """Of each group of texts the `most` words that many of them hold and few of the others, best first, as they are written.

    language  of the index that the texts lie in: by it words are stemmed, and function words known. Korean words are morphemes
              where the index has them, else what words have in common before their particles; of scripts without spaces
              pairs of characters

    The weight of a word is p log(p / q), p the share of the group's texts that hold it, q that of the others: its part of the
    divergence of the two, which frequent words have none of. As c-TF-IDF (BERTopic, 2022), but where groups are few too. A text
    that holds a word once counts in part; else chance names small groups.
    """
    texts = [[text[:READ] for text in group] for group in groups]
    reader = _Reader(language, [text for group in texts for text in group])
    found = [[reader.words(text) for text in group] for group in texts]
    holding = [Counter(word for words in group for word in words) for group in found]
    counts = [_counts(group) for group in found]
    everywhere: Counter[str] = sum(counts, Counter())
    total = sum(map(len, texts))

    def best(counted: Counter[str], held: Counter[str], size: int) -> list[str]:
        weights = {}
        for word, number in counted.items():
            p, q = number / AGAIN / size, ((everywhere[word] - number) / AGAIN + 0.5) / (total - size + 1)
            if held[word] > 1 or size < FEW:
                weights[word] = p * log(p / q)
        ordered = sorted(weights, key=lambda word: (-weights[word], word))
        return _apart([reader.written(word) for word in ordered[: 4 * most]])[:most]

    return [best(counted, held, len(group)) for counted, held, group in zip(counts, holding, texts, strict=True)]


def _counts(group: Sequence[Counter[str]]) -> Counter[str]:
    """Words by how much of the group they are what its texts are about."""
    counted: Counter[str] = Counter()
    for words in group:
        for word, times in words.items():
            counted[word] += AGAIN if times > 1 else 1
    return counted


class _Reader:
    """Finds the words of texts, each under one form, and how most texts write it."""

    def __init__(self, language: str, texts: Iterable[str]) -> None:
        self._language = language
        self._unsaid = function_words(language)
        self._stemmer: tantivy.TextAnalyzer | None = None if language == NO_STEMMER else analyzer(language)
        self._stems: dict[str, str] = {}
        self._forms: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._beginnings = Counter[str]() if language == KOREAN else _beginnings(texts)

    def words(self, text: str) -> Counter[str]:
        """The words that say something, and how often each stands there."""
        of_korean = morphemes(text) if self._language == KOREAN else []
        found = Counter(morpheme for morpheme in of_korean if len(morpheme) > 1)
        for match in terms(text):
            term = match.group()
            if is_run(term):
                found.update(self._of_run(term))
            elif (word := folded(term)) not in self._unsaid and SHORTEST <= len(word) <= LONGEST and not word.isnumeric():
                stem = self._stem(word)
                self._forms[stem][word] += 1
                found[stem] += 1
        return found

    def written(self, word: str) -> str:
        """How most texts write it."""
        forms = self._forms.get(word)
        return word if not forms else min(forms, key=lambda form: (-forms[form], form))

    def _stem(self, word: str) -> str:
        if word not in self._stems:
            stems = self._stemmer.analyze(word) if self._stemmer else []
            self._stems[word] = stems[0] if len(stems) == 1 else word
        return self._stems[word]

    def _of_run(self, run: str) -> list[str]:
        if not _is_hangul(run):
            return pairs(run)
        if self._language == KOREAN or len(run) < 2:
            return []
        word = self._beginning(run)
        return [] if word in _UNSAID_KOREAN else [word]

    def _beginning(self, run: str) -> str:
        """A Korean word without what only it has behind: as long as half of those that begin so far go on."""
        end = 2
        while end < min(len(run), LONGEST_BEGINNING):
            before, after = self._beginnings[run[:end]], self._beginnings[run[: end + 1]]
            is_particle = end + 1 == len(run) and run[end] in _PARTICLES
            if 2 * after < before or (is_particle and after < before):
                break
            end += 1
        return run[:end]


def _beginnings(texts: Iterable[str]) -> Counter[str]:
    """In how many texts a word begins so, of Korean words."""
    counted: Counter[str] = Counter()
    for text in texts:
        runs = {match.group() for match in terms(text) if _is_hangul(match.group())}
        counted.update({run[:end] for run in runs for end in range(2, min(len(run), LONGEST_BEGINNING) + 1)})
    return counted


def _is_hangul(term: str) -> bool:
    return _HANGUL[0] <= min(term) and max(term) <= _HANGUL[1]


def _apart(words: Iterable[str]) -> list[str]:
    """Words of which none is a part of one before it, or holds it."""
    kept: list[str] = []
    for word in words:
        if not any(word in other or other in word for other in kept):
            kept.append(word)
    return kept
