"""Text that no other part of the project holds."""

POEM = "床前明月光,疑是地上霜。舉頭望明月,低頭思故鄉。\n"
