"""Start the search page alone, over the course's own pictures, and keep it until Ctrl-C.

    python data_scripts/search_page.py                # prints an address such as http://127.0.0.1:7860/
    python data_scripts/search_page.py --port 8000

Type words in one of 37 languages and see pictures; hand over a picture and see captions. Nothing is trained for it but
straight-line maps, fitted at the start from the features that are shipped with the course: the search of lesson 00,
with lesson 01's readers for other languages. Only this machine can reach the page, and it asks nobody for anything.
"""

import argparse
import signal
import sys
import time
from functools import cache

import numpy as np

from course_utils import env, linear, page, stamps, towers  # noqa: F401 (env tells torch to wait quietly)
from course_utils.search import Finder, Index

LANGUAGES = {
    "en": "English", "ar": "Arabic", "bg": "Bulgarian", "ca": "Catalan", "cs": "Czech", "da": "Danish", "de": "German",
    "el": "Greek", "es": "Spanish", "fi": "Finnish", "fr": "French", "gl": "Galician", "he": "Hebrew", "hi": "Hindi",
    "hr": "Croatian", "hu": "Hungarian", "id": "Indonesian", "is": "Icelandic", "it": "Italian", "ja": "Japanese",
    "ko": "Korean", "nb": "Norwegian", "nl": "Dutch", "pl": "Polish", "pt": "Portuguese",
    "pt_br": "Portuguese (Brazil)", "ro": "Romanian", "ru": "Russian", "sk": "Slovak", "sl": "Slovenian",
    "sv": "Swedish", "th": "Thai", "tr": "Turkish", "uk": "Ukrainian", "vi": "Vietnamese",
    "zh_cn": "Chinese (simplified)", "zh_tw": "Chinese (traditional)",
}  # fmt: skip
EXAMPLES = (
    "a red bird",
    "an animal that lives in the sea",
    "ein Hund",
    "un coche rojo",
    "une grenouille",
    "рыба",
    "カエル",
)
ABOUT = (
    "Pictures are found by their pixels; the captions below them are for you. English is read by a network that knows "
    "many words. Other languages are read by what some 750 translated captions teach: a word that is in none of them "
    "is not understood."
)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays as it is."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


class Reader:
    """Sentences of one language into the places of English captions, by strings of two to five characters and ridge.

    sentences: M of them; places (M,E): their English twins, around zero. Reading gives unit rows (Q,E), or zeros for a
    sentence of which no string is known. Ridge is solved in the space of sentences (its kernel form): M x M is small.
    """

    def __init__(self, sentences: list[str], places: np.ndarray, strength: float = 1.0):
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.strings = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
        self.counts = self.strings.fit_transform(sentences)  # (M,V) sparse
        alike = (self.counts @ self.counts.T).toarray() + strength * np.eye(len(sentences))  # (M,M)
        self.weights = np.linalg.solve(alike, places)  # (M,E)

    def __call__(self, sentences: list[str]) -> np.ndarray:
        """(Q,E)"""
        return unit((self.strings.transform(sentences) @ self.counts.T) @ self.weights)  # (Q,V) @ (V,M) @ (M,E)


class Guesser:
    """Which language? Naive Bayes over strings of one to four characters of all captions.

    Before a word is read, English is as likely as all others together, which are alike. It is also fitted on
    `more_english`: of no other language is more known. Near relatives are told apart badly in a word or two.
    """

    def __init__(self, more_english: list[str]):
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.naive_bayes import MultinomialNB

        sentences, codes = [*more_english], ["en"] * len(more_english)
        for code in stamps.languages():
            some = stamps.captions(code).dropna()
            sentences += [text.rstrip(" .。|") for text in some]
            codes += [code] * len(some)
        self.strings = CountVectorizer(analyzer="char_wb", ngram_range=(1, 4))
        before = [0.5 if code == "en" else 0.5 / (len(set(codes)) - 1) for code in sorted(set(codes))]
        model = MultinomialNB(alpha=0.1, class_prior=before).fit(self.strings.fit_transform(sentences), codes)
        self.codes, self.before = model.classes_, model.class_log_prior_  # (C,), (C,)
        self.weights = np.ascontiguousarray(model.feature_log_prob_.T)  # (V,C): in this order a question takes no time

    def __call__(self, text: str) -> str:
        if any("\u3040" <= character <= "\u30ff" for character in text):  # kana is written in no other language
            return LANGUAGES["ja"]
        likely = self.strings.transform([text]) @ self.weights + self.before  # (1,V) @ (V,C) -> (1,C)
        return LANGUAGES[self.codes[likely.argmax()]]


def finder() -> Finder:
    """The search of lesson 00 over all embedded pictures, with a reader for each language, fitted when first asked."""
    tables = [stamps.load(part) for part in stamps.PARTS]
    shipped = [towers.features(part) for part in stamps.PARTS]
    image = [unit(part.image) for part in shipped]  # (748,D), (2977,D)
    caption = [part.text for part in shipped]  # (748,E), (2977,E)
    bridges = np.concatenate([part.bridge for part in shipped])  # (N,E)
    middle, centre = bridges.mean(axis=0), caption[0].mean(axis=0)  # (E,), (E,)
    # No picture is placed by a map that has seen its caption: stamps by clip art's map, clip art by the stamps'.
    placed = np.concatenate([place(linear.ridge(image[1 - k], caption[1 - k], 1.0), image[k]) for k in (0, 1)])
    z_img = unit(placed + unit(bridges - middle))  # (N,E)
    whole = linear.ridge(np.concatenate(image), np.concatenate(caption), 1.0)  # a new picture may be placed by all
    image_tower, text_tower = towers.load_image_tower(), towers.load_text_tower()

    def encode_image(picture):
        features = towers.embed(image_tower, [picture])  # (1,D)
        likely = likelihoods(image_tower, features)  # (1,1000)
        kept = np.where(likely >= np.sort(likely)[:, [-10]], likely, 0.0)  # the ten likeliest classes, as shipped
        bridge = unit(kept @ shipped[0].class_text - middle)  # (1,1000) @ (1000,E) -> (1,E)
        return unit(place(whole, unit(features)) + bridge)[0]

    def english(sentences):
        return unit(towers.embed(text_tower, sentences) - centre)

    @cache
    def taught(code):
        captions = stamps.captions(code)
        there = captions.notna().to_numpy()
        return Reader(list(captions[there]), (caption[0] - centre)[there])

    readers = {name: english if code == "en" else lambda sentences, code=code: taught(code)(sentences)
               for code, name in LANGUAGES.items() if code in stamps.languages()}  # fmt: skip
    titles = [str(text) for table in tables for text in table["caption"]]
    texts, first = np.unique(titles, return_index=True)
    pictures = [cell for table in tables for cell in table["picture"]]
    return Finder(
        readers=readers,
        encode_image=encode_image,
        pictures=Index(z_img, "lesson 00"),
        captions=Index(unit(np.concatenate(caption) - centre)[first], "lesson 00"),
        show=lambda row: stamps.picture(pictures[row], 160),
        titles=titles,
        texts=list(texts),
        guess=Guesser([*titles, *shipped[0].class_names]),
    )


def place(fitted: linear.LinearMap, image: np.ndarray) -> np.ndarray:
    """Unit rows (N,E) where a map puts picture features (N,D), around the mean of the captions it was fitted on."""
    return unit(fitted(image) - fitted.mean_y)


def likelihoods(tower: towers.ImageTower, features: np.ndarray) -> np.ndarray:
    """Features (B,D) -> what ImageNet's classes are given (B,1000), softmax."""
    import torch

    with torch.no_grad():
        return tower.classify(torch.from_numpy(features)).softmax(dim=-1).numpy()


def main(arguments: list[str] | None = None) -> int:
    """Command line: see the top of this file. Returns 0 after Ctrl-C, or 2 after an error that it has explained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, help="a port of your choice (default: the first free one from 7860 on)")
    options = parser.parse_args(arguments)
    for name in (signal.SIGINT, signal.SIGTERM):  # a shell's background jobs ignore the first; the second ends alike
        signal.signal(name, signal.default_int_handler)
    started, blocks = time.perf_counter(), None
    try:
        print("Fitting the search ...", flush=True)
        search = finder()
        blocks = page.build(search, "Find a picture from words", ABOUT, EXAMPLES)
        address = page.serve(blocks, options.port, inline=False)
        print(f"{len(search.pictures):,} pictures, ready after {time.perf_counter() - started:.0f} s: {address}")
        print("Open this address in a browser on this machine. Ctrl-C ends the page.", flush=True)
        while True:
            time.sleep(3_600)
    except KeyboardInterrupt:
        print("\nThe page has ended.")
        return 0
    except (ModuleNotFoundError, towers.MissingWeights, OSError, OverflowError) as error:  # no port is above 65535
        print(f"search_page: {error}", file=sys.stderr)
        return 2
    finally:
        if blocks is not None:
            page.close(blocks)


if __name__ == "__main__":
    sys.exit(main())
