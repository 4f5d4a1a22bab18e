"""What the words of a language are stemmed by, and which language a text is in."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from ragvec.errors import WrongUsage
from ragvec.index.words.analysis import STOPWORDS, folded_words
from ragvec.index.words.compounds import check_wordfreq, compound_parts
from ragvec.index.words.morphemes import check_kiwi, morphemes

if TYPE_CHECKING:
    import tantivy

NO_STEMMER = "none"
KOREAN = "korean"
GERMAN_COMPOUNDS = "german-compounds"
DEFAULT_LANGUAGE = "english"  # where the texts don't tell: English words stand in texts of most languages
LONGEST_WORD = 255  # bytes of a word that can be found

# Frequent words that tell a language from its neighbours, as they are folded.
_TELLING = {
    "arabic": "في من على إلى أن هذا هذه التي الذي كان عن مع ما لا قد",
    "danish": "og i at det er en til af på som med den for ikke der var han jeg et blev",
    "dutch": "de het een en van ik te dat die in is niet op aan met voor er maar om zijn",
    "english": "the and of to a in that is was for it with as his on be at by this not are an or from you",
    "finnish": "ja on ei se että hän oli mutta kun niin myös joka olla mitä tai kuin ovat",
    "french": "le la les de des et un une du que qui est dans pour pas sur il elle ne au",
    "german": "der die und das ist nicht ein eine zu den mit von sich auf dem für des im auch wird",
    "greek": "και το να του η της με που την από για είναι στο τα δεν",
    "hungarian": "a az és hogy nem is egy ez volt csak meg van már de ha el mint lehet",
    "italian": "il di che la e un per non una sono del della con le si dei da nel gli è",
    "norwegian": "og i det er på en som til å av for med at ikke den har ble jeg var etter",
    "portuguese": "de que e o a do da em um para não uma os no se na por mais as dos com",
    "romanian": "și de în a la cu pe nu este un o care din că sunt pentru mai fi sau",
    "russian": "и в не на что с я он как это по но из у за от так для же бы",
    "spanish": "de la que el en y los del se las por un para con no una su al lo es",
    "swedish": "och i att det som en på är av för med den till inte om ett han men var jag",
    "tamil": "ஒரு என்று மற்றும் இந்த என்ற அவர் இது என அந்த",
    "turkish": "ve bir bu da de için ile olarak çok daha olan gibi ne kadar sonra var değil",
}
LANGUAGES = (*_TELLING, GERMAN_COMPOUNDS, KOREAN, NO_STEMMER)  # Snowball's stemmers; two need an extra
_STEMMERS = {KOREAN: DEFAULT_LANGUAGE, GERMAN_COMPOUNDS: "german"}
_SAMPLE = 200  # texts
_SAMPLE_LETTERS = 2000  # of each
_LEAST_WORDS = 2  # different ones of them that tell a language other than English
_LEAST_SHARE = 0.08  # of a text's words that are among its language's most frequent: English has about 0.25


def check_language(language: str) -> None:
    """Raises WrongInput for one that is not known, Unavailable where what it needs is not installed."""
    if language not in LANGUAGES:
        raise WrongUsage(f"no stemmer for the language {language!r}: choose one of {', '.join(LANGUAGES)}")
    if language == KOREAN:
        check_kiwi()
    if language == GERMAN_COMPOUNDS:
        check_wordfreq()


def further_words(text: str, language: str) -> Sequence[str]:
    """What stands beside the words of a text, folded: Korean morphemes, the parts of German compounds, else nothing.

    Raises Unavailable where what it needs is not installed.
    """
    if language == KOREAN:
        return morphemes(text)
    return compound_parts(text) if language == GERMAN_COMPOUNDS else ()


@cache
def analyzer(language: str) -> "tantivy.TextAnalyzer":
    """What makes stems of folded words."""
    import tantivy

    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).filter(tantivy.Filter.remove_long(LONGEST_WORD))
    if language != NO_STEMMER:
        builder = builder.filter(tantivy.Filter.stemmer(_STEMMERS.get(language, language)))
    return builder.build()


@cache
def function_words(language: str) -> frozenset[str]:
    """The words, folded, that a query in a language is not about. English ones stand in queries of every language."""
    return STOPWORDS | _telling(language)


def guess_language(texts: Sequence[str]) -> str:
    """The language most of the texts are in, by their most frequent words; English where that can't be told."""
    words = Counter(word for text in texts[:_SAMPLE] for word in folded_words(text[:_SAMPLE_LETTERS]).split())
    total = words.total()
    shares = {language: sum(words[word] for word in _telling(language)) for language in _TELLING}
    best = max(shares, key=shares.__getitem__)
    if sum(word in words for word in _telling(best)) < _LEAST_WORDS:  # one alone may be another language's, or a name
        return DEFAULT_LANGUAGE
    return best if total and shares[best] >= _LEAST_SHARE * total else DEFAULT_LANGUAGE


@cache
def _telling(language: str) -> frozenset[str]:
    return frozenset(folded_words(_TELLING.get(_STEMMERS.get(language, language), "")).split())
