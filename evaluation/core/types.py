"""Shapes of the arrays that are passed around; axis order is always this one."""

import numpy as np
from jaxtyping import Bool, Float, Integer, Real, Shaped

Array = Shaped[np.ndarray, "..."]
Maps = Float[np.ndarray, "member image class row col"]
Map = Float[np.ndarray, "image class row col"]
Labels = Integer[np.ndarray, "image row col"]
Images = Real[np.ndarray, "image channel row col"]
Counts = Integer[np.ndarray, "image target prediction"]
Groups = Shaped[np.ndarray, "image"]
Kept = Bool[np.ndarray, "image"]
Shares = Float[np.ndarray, "class"]
