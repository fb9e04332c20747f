"""How it is written: text and items as token ids, and the trie of legal items."""
