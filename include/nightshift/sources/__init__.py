"""What comes in from elsewhere, and under which names it is kept."""

from nightshift.sources.pseudonyms import Names, names_in, names_of
