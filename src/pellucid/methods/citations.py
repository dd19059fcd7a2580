"""BibTeX of the papers behind each composite."""

from __future__ import annotations

__all__ = ["citation"]

_BACH = """@article{bach2015,
  author = {Bach, Sebastian and Binder, Alexander and Montavon, Gr{\\'e}goire and Klauschen, Frederick
    and M{\\"u}ller, Klaus-Robert and Samek, Wojciech},
  title = {On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance Propagation},
  journal = {PLOS ONE}, volume = {10}, number = {7}, year = {2015}, doi = {10.1371/journal.pone.0130140}
}"""
_ACHTIBAT = """@inproceedings{achtibat2024,
  author = {Achtibat, Reduan and Hatefi, Sayed Mohammad Vakilzadeh and Dreyer, Maximilian
    and Jain, Aakriti and Wiegand, Thomas and Lapuschkin, Sebastian and Samek, Wojciech},
  title = {{AttnLRP}: Attention-Aware Layer-Wise Relevance Propagation for Transformers},
  booktitle = {International Conference on Machine Learning}, year = {2024}
}"""
_ALI = """@inproceedings{ali2022,
  author = {Ali, Ameen and Schnake, Thomas and Eberle, Oliver and Montavon, Gr{\\'e}goire
    and M{\\"u}ller, Klaus-Robert and Wolf, Lior},
  title = {{XAI} for Transformers: Better Explanations through Conservative Propagation},
  booktitle = {International Conference on Machine Learning}, year = {2022}
}"""
_KOHLBRENNER = """@inproceedings{kohlbrenner2020,
  author = {Kohlbrenner, Maximilian and Bauer, Alexander and Nakajima, Shinichi and Binder, Alexander
    and Samek, Wojciech and Lapuschkin, Sebastian},
  title = {Towards Best Practice in Explaining Neural Network Decisions with {LRP}},
  booktitle = {International Joint Conference on Neural Networks}, year = {2020}
}"""
_MONTAVON_2019 = """@incollection{montavon2019,
  author = {Montavon, Gr{\\'e}goire and Binder, Alexander and Lapuschkin, Sebastian
    and Samek, Wojciech and M{\\"u}ller, Klaus-Robert},
  title = {Layer-Wise Relevance Propagation: An Overview},
  booktitle = {Explainable AI: Interpreting, Explaining and Visualizing Deep Learning}, year = {2019}
}"""
_MONTAVON_2017 = """@article{montavon2017,
  author = {Montavon, Gr{\\'e}goire and Lapuschkin, Sebastian and Binder, Alexander
    and Samek, Wojciech and M{\\"u}ller, Klaus-Robert},
  title = {Explaining Nonlinear Classification Decisions with Deep {Taylor} Decomposition},
  journal = {Pattern Recognition}, volume = {65}, year = {2017}
}"""
_ZHANG = """@article{zhang2018,
  author = {Zhang, Jianming and Bargal, Sarah Adel and Lin, Zhe and Brandt, Jonathan and Shen, Xiaohui
    and Sclaroff, Stan},
  title = {Top-Down Neural Attention by Excitation Backprop},
  journal = {International Journal of Computer Vision}, volume = {126}, year = {2018}
}"""
_SPRINGENBERG = """@inproceedings{springenberg2015,
  author = {Springenberg, Jost Tobias and Dosovitskiy, Alexey and Brox, Thomas and Riedmiller, Martin},
  title = {Striving for Simplicity: The All Convolutional Net},
  booktitle = {ICLR Workshop}, year = {2015}
}"""
ZEILER = """@inproceedings{zeiler2014,
  author = {Zeiler, Matthew D. and Fergus, Rob},
  title = {Visualizing and Understanding Convolutional Networks},
  booktitle = {European Conference on Computer Vision}, year = {2014}
}"""
SIMONYAN = """@inproceedings{simonyan2014,
  author = {Simonyan, Karen and Vedaldi, Andrea and Zisserman, Andrew},
  title = {Deep Inside Convolutional Networks: Visualising Image Classification Models and Saliency Maps},
  booktitle = {ICLR Workshop}, year = {2014}
}"""
SHRIKUMAR = """@inproceedings{shrikumar2017,
  author = {Shrikumar, Avanti and Greenside, Peyton and Kundaje, Anshul},
  title = {Learning Important Features Through Propagating Activation Differences},
  booktitle = {International Conference on Machine Learning}, year = {2017}
}"""

_BY_COMPOSITE = {
    "attn-lrp": (_BACH, _ACHTIBAT),
    "cp-lrp": (_BACH, _ALI),
    "auto": (_BACH, _MONTAVON_2019, _KOHLBRENNER, _ALI),
    "epsilon-plus": (_BACH, _KOHLBRENNER),
    "epsilon-plus-flat": (_BACH, _KOHLBRENNER),
    "epsilon-alpha2-beta1": (_BACH, _KOHLBRENNER),
    "epsilon-alpha2-beta1-flat": (_BACH, _KOHLBRENNER),
    "epsilon-gamma-box": (_BACH, _MONTAVON_2019),
    "deep-taylor": (_MONTAVON_2017,),
    "excitation-bp": (_ZHANG,),
    "guided-backprop": (_SPRINGENBERG,),
    "deconvnet": (ZEILER,),
    "gradient": (SIMONYAN,),
}


def citation(composite: str) -> str:
    """BibTeX of what ``composite`` builds on."""
    return "\n\n".join(_BY_COMPOSITE.get(composite, (_BACH,)))
