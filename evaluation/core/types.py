"""Shapes of the arrays that travel; leading axes are left out where there is one only."""

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped

Array = Shaped[np.ndarray, "..."]
Maps = Float[np.ndarray, "member image class row col"]
Map = Float[np.ndarray, "image class row col"]
Labels = Integer[np.ndarray, "image row col"]
Images = Integer[np.ndarray, "image channel row col"]
Counts = Integer[np.ndarray, "image true prediction"]
Groups = Shaped[np.ndarray, "image"]
Kept = Bool[np.ndarray, "image"]
Shares = Float[np.ndarray, "class"]
