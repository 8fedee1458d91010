"""Other ways to search vectors and to answer "what is related?", each in one file behind one interface."""
