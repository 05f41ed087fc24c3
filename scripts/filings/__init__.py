"""The fictitious companies behind data/: who they are, their books, their annual reports and questions about them."""
