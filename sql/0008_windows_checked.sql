-- When the venue last showed more of a time window, by the database's clock. The end of what is proven is by the venue's:
-- of one that is an hour ahead, it would look known for an hour after the last answer.
ALTER TABLE trade_windows ADD COLUMN checked_at timestamptz;
