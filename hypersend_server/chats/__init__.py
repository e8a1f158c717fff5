"""The room of chats: who talks with whom, what they say, and what they have missed."""
