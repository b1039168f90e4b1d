"""The entries of the named sets of labelled texts, and of texts to pretrain on. Nothing here imports torch.

A labelled set of the kinds "sentences", "entities", "questions" and "ranking" is a text too: its name as the
source of a text gives its texts without labels, but for those of its test (see `load.load_text`).
"""

from __future__ import annotations

from descent.data.entry_types import RAW, Entry, files

__all__ = ["ATTENDING"]

_NC = "for non-commercial use only"

_SENTENCES = (
    Entry(
        "sst2",
        "9,613 sentences of film reviews, good or bad: train 6,920, validation 872, test 1,821 (whole "
        "sentences with labels, not the 67,000 phrases of GLUE's form)",
        "sentences",
        "sst2",
        "none given (Stanford; freely distributed for research)",
        "R. Socher et al., Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank, "
        "EMNLP 2013",
        files(
            f"{RAW}/clairett/pytorch-sentiment-classification/master/data/SST2",
            ("train.tsv", 720259, "ec192f833a64da08f475488a77b0d0b47db47acd0f458bd18433fc793b569920"),
            ("dev.tsv", 92057, "eddea6b39e601dd4e7a672b53cc40fdf6019fa80522f351206c24340ca5d9359"),
            ("test.tsv", 188749, "831169c7e2e429d6026e1bdbb542f33b636e3e596caad9602ebc953c205928b7"),
        ),
    ),
    Entry(
        "chnsenticorp-hotel",
        "7,766 Chinese reviews of hotels, 5,322 good and 2,444 bad; split by a hash of the review: "
        "validation and test a tenth each",
        "sentences",
        "chnsenticorp-hotel",
        "none given (a public collection for research)",
        "S. Tan, J. Zhang, ChnSentiCorp; SophonPlus/ChineseNlpCorpus, ChnSentiCorp_htl_all",
        files(
            f"{RAW}/SophonPlus/ChineseNlpCorpus/master/datasets/ChnSentiCorp_htl_all",
            (
                "ChnSentiCorp_htl_all.csv",
                2904858,
                "1d414b9c65caf3a836abdb4efded621968502ad3338e1a9d885ae131c86083f0",
            ),
        ),
        folder="chnsenticorp_htl",
    ),
    Entry(
        "sick2014",
        "9,927 pairs of English sentences, each an entailment, a contradiction or neither: train 4,500, "
        f"validation 500, test 4,927; {_NC}",
        "sentences",
        "sick2014",
        "CC BY-NC-SA 3.0",
        "M. Marelli et al., A SICK cure for the evaluation of compositional distributional semantic models, "
        "LREC 2014",
        files(
            f"{RAW}/brmson/dataset-sts/master/data/sts/sick2014",
            ("SICK_train.txt", 506243, "266cf8047149bd1d68138dd30439f3122bff30069740ac6705bb6197d9f1b48e"),
            ("SICK_trial.txt", 57225, "5a88cfb62f8c6bd2a3cce0f2421ba2cb8c2be5ab4a800f6f01e2c64aafb7db56"),
            (
                "SICK_test_annotated.txt",
                559979,
                "2b8aa806658d6fc23c6824c83776c2d4fee7556000817b5ec0f982861413b7d0",
            ),
        ),
    ),
    Entry(
        "ocnli",
        "5,944 pairs of Chinese sentences, each an entailment, a contradiction or neither: the small "
        f"training file (2,994 with a label) and the validation file (2,950, the test); {_NC}",
        "sentences",
        "ocnli",
        "CC BY-NC 2.0",
        "H. Hu et al., OCNLI: Original Chinese Natural Language Inference, Findings of EMNLP 2020",
        files(
            f"{RAW}/CLUEbenchmark/OCNLI/main/data/ocnli",
            ("train.3k.json", 866767, "b6911d293ad88b4c053c5f847b6643c79de72bdf42f9061c5f61f43f8a79dca6"),
            ("dev.json", 977426, "001ded235d73a18dac68a45a38cd5f9b3f9311fa4246df623e199422c073ddc5"),
        ),
    ),
)

_ENTITIES = (
    Entry(
        "wnut17",
        "5,690 English messages of social media with the places of rare names of 6 types: train 3,394, "
        "validation 1,009, test 1,287",
        "entities",
        "wnut17",
        "CC BY 4.0",
        "L. Derczynski et al., Results of the WNUT2017 Shared Task on Novel and Emerging Entity "
        "Recognition, W-NUT 2017",
        files(
            f"{RAW}/leondz/emerging_entities_17/master",
            ("wnut17train.conll", 493781, "731820e13f71af324c6b55a1575ec2ce59fbaa2a0806f8f0400b98d56cd6a7a5"),
            (
                "emerging.dev.conll",
                114749,
                "e053b752b8155113ca66e7db08af5f2f5f43ab993694e4774f1ec5bad42312d8",
            ),
            (
                "emerging.test.annotated",
                192425,
                "2aa79b764e56ec9264a1b30fdd9b70195bd00ff400b62edd8f399d5f13c178f0",
            ),
        ),
    ),
)

_XQUAD = (
    "M. Artetxe, S. Ruder, D. Yogatama, On the Cross-lingual Transferability of Monolingual "
    "Representations, ACL 2020"
)

_QUESTIONS = (
    Entry(
        "cmrc2018",
        "4,221 questions on 1,104 paragraphs of the Chinese Wikipedia, each answered by a span: the trial "
        "file (256 paragraphs) is split by a hash of the article's title into train and validation, the "
        "official validation file (848) is the test; the official training file is not part of this entry",
        "questions",
        "cmrc2018",
        "CC BY-SA 4.0",
        "Y. Cui et al., A Span-Extraction Dataset for Chinese Machine Reading Comprehension, EMNLP 2019",
        files(
            f"{RAW}/ymcui/cmrc2018/master/squad-style-data",
            (
                "cmrc2018_dev.json",
                3299139,
                "e9ff74231f05c230c6fa88b84441ee334d97234cbb610991cd94b82db00c7f1f",
            ),
            (
                "cmrc2018_trial.json",
                800221,
                "f3fae95b57da8e03afb2b57467dd221417060ef4d82db13bf22fc88589f3a6f3",
            ),
        ),
    ),
    *(
        Entry(
            f"xquad-{code}",
            f"1,190 {language} questions on 240 paragraphs of 48 articles, each answered by a span; split by "
            "a hash of the article's title, so that the two languages are split alike",
            "questions",
            f"xquad-{code}",
            "CC BY-SA 4.0",
            _XQUAD,
            files(f"{RAW}/google-deepmind/xquad/master", (f"xquad.{code}.json", size, digest)),
            folder="xquad",
        )
        for code, language, size, digest in (
            ("en", "English", 609383, "e4c57d1c9143aaa1c5d265ba5987a65f4e69528d2a98f29d6e75019b10344f29"),
            ("zh", "Chinese", 808652, "691d0b3359bc6b8faa8de931dfdfe21d50a65861ae348e32a0d1a0190b0c8835"),
        )
    ),
)

_CRANFIELD = f"{RAW}/DrDesignX/Simple_IR/e18aea0dd1761074e1721675f51f251f368cd808"
_CRANFIELD_QUERIES = f"{RAW}/Chetan-Prasad/IR-Lucene_Cran/ff1bd825c1781e908fdcb8a20609ef779abb3d2a"

_RANKING = (
    Entry(
        "cranfield",
        "1,400 abstracts on aerodynamics, 225 questions, and 1,837 judgements of what answers what",
        "ranking",
        "cranfield",
        "none given (freely distributed for research by the Glasgow IR group)",
        "C. Cleverdon, The Cranfield tests on index language devices, Aslib Proceedings 19, 1967",
        (
            *files(
                _CRANFIELD,
                (
                    "cran.all.1400",
                    1644706,
                    "b234544b6ceccd131520df4a3cb6d42aee6576eb577933d047e722bbfe7b0b09",
                ),
            ),
            *files(
                _CRANFIELD_QUERIES,
                ("cran.qry", 28957, "99578ceb88941ef89c14faf7c63c23776a376d8fba319b990f01d0c601d8b03f"),
                ("cranqrel", 19541, "92e54b58dac0b980152178f350d892fae66c8a239b8a11715b835fb8d2f6bc0e"),
            ),
        ),
    ),
)

_MULTI30K = f"{RAW}/multi30k/dataset/master/data/task1/raw"
_MULTI30K_CITATION = "D. Elliott et al., Multi30K: Multilingual English-German Image Descriptions, 2016"
_MULTI30K_LICENCE = "CC BY-NC-SA 4.0"
_MULTI30K_SUMS = {
    "train.de.gz": (637044, "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"),
    "train.en.gz": (568929, "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f"),
    "val.de.gz": (24681, "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a"),
    "val.en.gz": (21650, "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28"),
    "test_2016_flickr.de.gz": (22890, "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8"),
    "test_2016_flickr.en.gz": (21077, "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9"),
}

_PAIRS = (
    Entry(
        "multi30k",
        "descriptions of 31,014 photographs, in German and as translated from it into English: train 29,000, "
        f"validation 1,014, test (2016, Flickr) 1,000; {_NC}",
        "pairs",
        "multi30k",
        _MULTI30K_LICENCE,
        _MULTI30K_CITATION,
        files(_MULTI30K, *((name, size, digest) for name, (size, digest) in _MULTI30K_SUMS.items())),
    ),
    *(
        Entry(
            f"multi30k-{code}",
            f"the 29,000 {language} sentences of multi30k's training part, one a document; {_NC}",
            "text",
            "zipped-lines",
            _MULTI30K_LICENCE,
            _MULTI30K_CITATION,
            files(_MULTI30K, (f"train.{code}.gz", *_MULTI30K_SUMS[f"train.{code}.gz"])),
            folder="multi30k",
        )
        for code, language in (("en", "English"), ("de", "German"))
    ),
)

_ALPACA = f"{RAW}/hiyouga/LLaMA-Factory/main/data"

_TEXTS = (
    Entry(
        "wikitext-2-all",
        "WikiText-2, its valid and test files, all of it to train on: the 122 articles are split by hash, so "
        "figures on it are not comparable with published ones",
        "text",
        "wikitext-all",
        "CC BY-SA 3.0",
        "S. Merity et al., Pointer Sentinel Mixture Models, arXiv:1609.07843, 2016",
        files(
            f"{RAW}/pytorch/examples/main/word_language_model/data/wikitext-2",
            ("valid.txt", 1121681, "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8"),
            ("test.txt", 1256449, "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"),
        ),
        folder="wikitext-2",
    ),
    Entry(
        "gsm8k-questions",
        "the 7,473 questions of GSM8K's training part, grade-school sums in words, without answers",
        "text",
        "gsm8k-questions",
        "MIT",
        "K. Cobbe et al., Training Verifiers to Solve Math Word Problems, arXiv:2110.14168, 2021",
        files(
            f"{RAW}/openai/grade-school-math/master/grade_school_math/data",
            ("train.jsonl", 4166206, "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465"),
        ),
        folder="gsm8k",
    ),
    Entry(
        "self-instruct",
        "175 seed tasks and 252 tasks written by experts: each with its output is a document",
        "text",
        "instructions",
        "Apache-2.0",
        "Y. Wang et al., Self-Instruct: Aligning Language Models with Self-Generated Instructions, ACL 2023",
        (
            *files(
                f"{RAW}/yizhongw/self-instruct/main/data",
                (
                    "seed_tasks.jsonl",
                    110934,
                    "7779004fa198fdf27cf70a159363879d8a26c53329e11b436af17b3941875f48",
                ),
            ),
            *files(
                f"{RAW}/yizhongw/self-instruct/main/human_eval",
                (
                    "user_oriented_instructions.jsonl",
                    170193,
                    "81d60a117db495cecedecd9193504fd07c5b5a42f6699ef6b0f9da10fc22f42e",
                ),
            ),
        ),
    ),
    *(
        Entry(
            f"alpaca-{code}",
            f"{count} {language} instructions with answers that a model wrote, each a document; {_NC}",
            "text",
            "instructions",
            "CC BY-NC 4.0 (as Alpaca's; the repository that hosts it: Apache-2.0)",
            "R. Taori et al., Stanford Alpaca, 2023; hiyouga/LLaMA-Factory, its demonstration files",
            files(_ALPACA, (f"alpaca_{code}_demo.json", size, digest)),
            folder="llamafactory-demo",
        )
        for code, language, count, size, digest in (
            (
                "en",
                "English",
                "999",
                859893,
                "bcc37c64db1a739a0789a1b81f251146fcf4459f903474bc9e3c21bbb5628318",
            ),
            (
                "zh",
                "Chinese",
                "1,000",
                636036,
                "d5a4be46ae70d23a461ffc16048069324c0865ee9aa0c8730e21ac4b65ea0f08",
            ),
        )
    ),
)

ATTENDING = (*_SENTENCES, *_ENTITIES, *_QUESTIONS, *_RANKING, *_PAIRS, *_TEXTS)
