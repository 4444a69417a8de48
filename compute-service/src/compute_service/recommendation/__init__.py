"""Similar films, and films for a user.

    interactions, taste   what users did, in order, and how much each of it counts; pure
    model                 fits the model from all of it; needs scipy, so only `fitting` imports it
    scoring, content      ranks films from a few stored rows of a model, or by content alone; pure
    fitting, artifact     the process that fits a model and stores it, and who starts that
    repository            all SQL
    reader, api           the answers

This module imports nothing, so that a service that only answers does not load what fits.
"""
