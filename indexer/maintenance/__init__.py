"""Jobs on a whole data folder: back it up, restore it, embed it again with another model."""
