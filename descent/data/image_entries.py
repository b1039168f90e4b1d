"""The entries of the named sets of images. Nothing here imports torch.

Where a page is served over http as well, that address stands last and only beside a SHA-256.
"""

from __future__ import annotations

from descent.data.entry_types import RAW, Entry, File, files

__all__ = ["IMAGES"]


def _medmnist(name: str, size: int, md5: str) -> File:
    return File(name, (f"https://zenodo.org/records/10519652/files/{name}?download=1",), size, md5=md5)


_CIFAR = "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, Univ. of Toronto, 2009"
_CIFAR_LICENCE = "none given by the authors, who ask to be cited; used freely for research"
_SHEETS = files(
    f"{RAW}/taneishi/convnetjs/master/demo/cifar10",
    ("cifar10_batch_0.png", 2318456, "0614720d69293a033786d5fe2924c4e9a9b48874f19ca4627c4662a864ee9f2d"),
    ("cifar10_batch_1.png", 2326379, "2927e26ea68602e34a7424826b76b7336ce36b8f6bcc2e9fce0c05568ff6b4c1"),
    ("cifar10_batch_2.png", 2312906, "0b2759e307bb405bb1a6531f8a0f557eaec46d7546050612fdb836f0fa60eae0"),
    ("cifar10_batch_3.png", 2328590, "a4530ff15c83886058a97c352f53f38be07d191de8f410e998e91786b5900a26"),
    ("cifar10_batch_4.png", 2303320, "6368e6cf9ded682f69919f391510b73ac16058592013789501caea14cd6f15e2"),
    ("cifar10_batch_5.png", 2303313, "b8d480bb9e1fceddf958efbe7fa0613e42b36d77f2dd839040b6bb5c3fb4fd1c"),
    ("cifar10_batch_6.png", 2326638, "fcc06b274a20361573764fa885fa6e40cd50b2e6eb95656690d4f5125f295e14"),
    ("cifar10_batch_7.png", 2314475, "e7b8d6e916b2d5c9e6b9a3b6fc3161ccecb5142ce1d3d5a05e465f090daeb417"),
    ("cifar10_batch_8.png", 2309737, "4c582a8c638f2333a544526d3f24d0d85d108b3587d4b44cabc0cbc66dd269ac"),
    ("cifar10_batch_9.png", 2296835, "218b20c7526f88c0d79b485167147ebc3ace9ef3d3b8561358bd9f667164a0a8"),
    ("cifar10_batch_10.png", 2299407, "2b31fb8431f2b9a7870e5ff41cee102fdba5ccced08e651f7f6b456770014476"),
    ("cifar10_batch_11.png", 2312697, "140e4b9b97ecf75761490f3ee32d75bfc5e8bd9253afd4cbd5e4f60bbe9ff34e"),
    ("cifar10_batch_12.png", 2313455, "1a3e5536a73667845110320ba8ec58c566a0fe99953aa38e16dabb14f9af4e22"),
    ("cifar10_batch_13.png", 2320012, "29b3899e14ce5951fbb919261e6db35eaafbc583cff76ba6860fa8abd996f8bd"),
    ("cifar10_batch_14.png", 2329461, "55588e636c37daa059a0b578460f8cbdbd8c68155f998612f2fff9dd243c85f2"),
    ("cifar10_batch_15.png", 2319347, "6ba30e658a5b844d90831c9dd815fe3edee95ae0e819f7927cd8fe893e82c2b1"),
    ("cifar10_batch_16.png", 2307958, "0f7933aa56882614d7b43655b8cd44e521fd654edf3a0b50ac96b18b1a780bd9"),
    ("cifar10_batch_17.png", 2325597, "00cf8579a5cd7e100e1a864819bc89a8d9b6753e4c32f9b42a348a6b102bdde2"),
    ("cifar10_batch_18.png", 2315400, "601a291981f71e5107168ea50b5a7f236d299355c8adfb31bcd56b13632390bc"),
    ("cifar10_batch_19.png", 2320356, "4a6a93b0917bacee8b8b365cc3a0f1c39e21d7384a9419d5d1bedf2713863806"),
    ("cifar10_batch_50.png", 2315890, "5cea9e8fb7933540a2236a4bb25c1ed3a8447f345c55ae659143a95a5d8dac5e"),
    ("cifar10_labels.txt", 42000, "bd667499efc5d52ecc348f5dc95621933df43ffb75d693728ce862f5dc49c4bf"),
)
_MEDMNIST = "J. Yang et al., MedMNIST v2, Scientific Data 10:41, 2023"

IMAGES = (
    Entry(
        "mnist",
        "60,000 + 10,000 handwritten digits, 28 x 28 grey, 10 classes; validation is 5,000 of the training "
        "images chosen by hash",
        "images",
        "mnist",
        "CC BY-SA 3.0 as stated by Keras; the authors give none",
        "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document "
        "recognition, Proc. IEEE 86(11), 1998",
        files(
            (
                "https://ossci-datasets.s3.amazonaws.com/mnist",
                "https://storage.googleapis.com/cvdf-datasets/mnist",
            ),
            (
                "train-images-idx3-ubyte.gz",
                9912422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            (
                "train-labels-idx1-ubyte.gz",
                28881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            (
                "t10k-images-idx3-ubyte.gz",
                1648877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            (
                "t10k-labels-idx1-ubyte.gz",
                4542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
    ),
    Entry(
        "fashion-mnist",
        "60,000 + 10,000 pictures of clothing, 28 x 28 grey, 10 classes; validation is 5,000 of the "
        "training images chosen by hash; its authors publish MD5 sums only",
        "images",
        "fashion-mnist",
        "MIT",
        "H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, arXiv:1708.07747, 2017",
        files(
            f"{RAW}/zalandoresearch/fashion-mnist/master/data/fashion",
            ("train-images-idx3-ubyte.gz", 26421880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            ("train-labels-idx1-ubyte.gz", 29515, "25c81989df183df01b3e8a0aad5dffbe"),
            ("t10k-images-idx3-ubyte.gz", 4422102, "bef4ecab320f06d8554ea6380940ec79"),
            ("t10k-labels-idx1-ubyte.gz", 5148, "bb300cfdad3c16e7a12a480ee83cd310"),
        ),
    ),
    Entry(
        "cifar10",
        "50,000 + 10,000 colour photographs of 10 kinds of animals and vehicles, 32 x 32; validation "
        "is 5,000 of the training images chosen by hash; the archive's binary version, read where it lies",
        "images",
        "cifar10",
        _CIFAR_LICENCE,
        _CIFAR,
        files(
            "https://www.cs.toronto.edu/~kriz",
            (
                "cifar-10-binary.tar.gz",
                170052171,
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
        ),
    ),
    Entry(
        "cifar10-20k",
        "the first 20,000 training and the first 1,000 test images of CIFAR-10, as PNG sheets; validation is "
        "1,000 of the training images chosen by hash; figures on it are not comparable with CIFAR-10's",
        "images",
        "cifar10-20k",
        _CIFAR_LICENCE,
        _CIFAR,
        _SHEETS,
        folder="cifar10-png",
    ),
    Entry(
        "cats-dogs",
        "the cats and dogs of cifar10-20k: 2,011 cats and 1,925 dogs to train on, 400 of them held out for "
        "validation by hash, and those of its test images",
        "images",
        "cats-dogs",
        _CIFAR_LICENCE,
        _CIFAR,
        _SHEETS,
        folder="cifar10-png",
    ),
    Entry(
        "cifar10-20k-others",
        "cifar10-20k without its cats and dogs, 8 classes: what a network may learn before it is shown cats "
        "and dogs",
        "images",
        "cifar10-20k-others",
        _CIFAR_LICENCE,
        _CIFAR,
        _SHEETS,
        folder="cifar10-png",
    ),
    Entry(
        "kmnist",
        "60,000 + 10,000 cursive hiragana from old Japanese books, 28 x 28 grey, 10 classes; validation is "
        "5,000 of the training images chosen by hash",
        "images",
        "kmnist",
        "CC BY-SA 4.0",
        "T. Clanuwat et al., Deep Learning for Classical Japanese Literature, arXiv:1812.01718, 2018",
        files(
            (
                "https://codh.rois.ac.jp/kmnist/dataset/kmnist",
                "http://codh.rois.ac.jp/kmnist/dataset/kmnist",
            ),
            (
                "train-images-idx3-ubyte.gz",
                18165135,
                "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            ),
            (
                "train-labels-idx1-ubyte.gz",
                29497,
                "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            ),
            (
                "t10k-images-idx3-ubyte.gz",
                3041136,
                "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            ),
            (
                "t10k-labels-idx1-ubyte.gz",
                5120,
                "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
            ),
        ),
    ),
    Entry(
        "svhn",
        "73,257 + 26,032 house numbers cut to their middle digit, 32 x 32 colour, 10 classes; validation is "
        "5,000 of the training images chosen by hash; the extra set is not part of this entry",
        "images",
        "svhn",
        "non-commercial use only",
        "Y. Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, NIPS "
        "workshop, 2011",
        files(
            (
                "https://ufldl.stanford.edu/housenumbers",
                "http://ufldl.stanford.edu/housenumbers",
            ),
            (
                "train_32x32.mat",
                182040794,
                "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
            ),
            (
                "test_32x32.mat",
                64275384,
                "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
            ),
        ),
    ),
    Entry(
        "stl10",
        "5,000 + 8,000 colour photographs of 10 kinds of animals and vehicles, 96 x 96; validation is 500 of "
        "the training images chosen by hash; the 100,000 images without labels are in the file, unread",
        "images",
        "stl10",
        "none given by the authors; images from ImageNet, used freely for research",
        "A. Coates, H. Lee, A. Ng, An Analysis of Single-Layer Networks in Unsupervised Feature Learning, "
        "AISTATS, 2011",
        files(
            (
                "https://cs.stanford.edu/~acoates/stl10",
                "https://ai.stanford.edu/~acoates/stl10",
                "http://ai.stanford.edu/~acoates/stl10",
            ),
            (
                "stl10_binary.tar.gz",
                2640397119,
                "f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
            ),
        ),
    ),
    Entry(
        "breastmnist",
        "780 ultrasound images of breasts, malignant or not, 28 x 28 grey; official splits 546, 78, 156",
        "images",
        "breastmnist",
        "CC BY 4.0",
        _MEDMNIST,
        (_medmnist("breastmnist.npz", 559580, "750601b1f35ba3300ea97c75c52ff8f6"),),
        folder="medmnist",
    ),
    Entry(
        "pneumoniamnist",
        "5,856 chest X-rays of children, pneumonia or not, 28 x 28 grey; official splits 4,708, 524, 624",
        "images",
        "pneumoniamnist",
        "CC BY 4.0",
        _MEDMNIST,
        (_medmnist("pneumoniamnist.npz", 0, "28209eda62fecd6e6a2d98b1501bb15f"),),
        folder="medmnist",
    ),
    Entry(
        "digits",
        "1,797 handwritten digits, 8 x 8 grey, 10 classes; comes with scikit-learn; no download",
        "images",
        "digits",
        "CC BY 4.0 (UCI)",
        "E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
    ),
)
