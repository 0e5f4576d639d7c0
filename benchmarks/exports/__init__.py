"""Does a study keep its answer when it is exported in another way?"""
