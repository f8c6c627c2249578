-- The tables, as klinestream/market/tables.py defines them (`create_table` in klinestream/stores/postgres/ddl.py gave the statements),
-- and how far each partition of each topic stands in them.

CREATE TABLE windows (
    symbol text COLLATE "C" NOT NULL,
    start_time timestamp with time zone NOT NULL,
    end_time timestamp with time zone NOT NULL,
    close double precision NOT NULL,
    average_price double precision NOT NULL,
    low double precision NOT NULL,
    high double precision NOT NULL,
    volume double precision NOT NULL,
    points bigint NOT NULL,
    rsi double precision,
    rsi_ready boolean NOT NULL,
    since_time timestamp with time zone NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (symbol, end_time)
) PARTITION BY RANGE (end_time);

CREATE TABLE trade_windows (
    symbol text COLLATE "C" NOT NULL,
    start_time timestamp with time zone NOT NULL,
    end_time timestamp with time zone NOT NULL,
    close double precision NOT NULL,
    average_price double precision,
    average_by_volume double precision,
    low double precision,
    high double precision,
    volume double precision NOT NULL,
    buy_volume double precision,
    sell_volume double precision,
    points bigint NOT NULL,
    whole boolean NOT NULL,
    rsi double precision,
    rsi_ready boolean NOT NULL,
    since_time timestamp with time zone NOT NULL,
    since_id bigint NOT NULL,
    source text COLLATE "C" NOT NULL,
    proof text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (symbol, end_time)
) PARTITION BY RANGE (end_time);

CREATE TABLE candles (
    symbol text COLLATE "C" NOT NULL,
    interval text COLLATE "C" NOT NULL,
    open_time timestamp with time zone NOT NULL,
    close_time timestamp with time zone NOT NULL,
    open numeric(19,8) NOT NULL,
    high numeric(19,8) NOT NULL,
    low numeric(19,8) NOT NULL,
    close numeric(19,8) NOT NULL,
    base_volume numeric NOT NULL,
    quote_volume numeric NOT NULL,
    taker_base_volume numeric NOT NULL,
    taker_quote_volume numeric NOT NULL,
    trades bigint NOT NULL,
    first_trade_id bigint,
    last_trade_id bigint,
    klines bigint NOT NULL,
    complete boolean NOT NULL,
    origin text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (symbol, interval, open_time)
) PARTITION BY RANGE (open_time);

CREATE TABLE indicators (
    symbol text COLLATE "C" NOT NULL,
    interval text COLLATE "C" NOT NULL,
    open_time timestamp with time zone NOT NULL,
    close_time timestamp with time zone NOT NULL,
    close double precision NOT NULL,
    readings jsonb NOT NULL,
    unready text[] NOT NULL,
    since_time timestamp with time zone NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (symbol, interval, open_time)
) PARTITION BY RANGE (open_time);

CREATE TABLE signals (
    id text COLLATE "C" NOT NULL,
    symbol text COLLATE "C" NOT NULL,
    interval text COLLATE "C" NOT NULL,
    open_time timestamp with time zone NOT NULL,
    close_time timestamp with time zone NOT NULL,
    side text COLLATE "C" NOT NULL,
    rule text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    price double precision NOT NULL,
    value double precision NOT NULL,
    threshold double precision NOT NULL,
    reason text COLLATE "C" NOT NULL,
    since_time timestamp with time zone NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (id, open_time)
) PARTITION BY RANGE (open_time);

CREATE TABLE aggregates (
    symbol text COLLATE "C" NOT NULL,
    open_time timestamp with time zone NOT NULL,
    close_time timestamp with time zone NOT NULL,
    day_candles bigint NOT NULL,
    day_volume double precision NOT NULL,
    day_average_volume double precision NOT NULL,
    day_average_open double precision NOT NULL,
    day_average_close double precision NOT NULL,
    day_low double precision NOT NULL,
    day_high double precision NOT NULL,
    candles bigint NOT NULL,
    volume double precision NOT NULL,
    average_volume double precision NOT NULL,
    average_open double precision NOT NULL,
    average_close double precision NOT NULL,
    low double precision NOT NULL,
    high double precision NOT NULL,
    since_time timestamp with time zone NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (symbol, open_time)
) PARTITION BY RANGE (open_time);

CREATE TABLE predictions (
    symbol text COLLATE "C" NOT NULL,
    interval text COLLATE "C" NOT NULL,
    open_time timestamp with time zone NOT NULL,
    close_time timestamp with time zone NOT NULL,
    model text COLLATE "C" NOT NULL,
    horizon text COLLATE "C" NOT NULL,
    prediction double precision NOT NULL,
    probability double precision NOT NULL,
    inputs text COLLATE "C" NOT NULL,
    since_time timestamp with time zone NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (symbol, interval, open_time, model)
) PARTITION BY RANGE (open_time);

CREATE TABLE gaps (
    gap text COLLATE "C" NOT NULL,
    symbol text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    producer text COLLATE "C" NOT NULL,
    from_time timestamp with time zone NOT NULL,
    to_time timestamp with time zone NOT NULL,
    klines bigint NOT NULL,
    source text COLLATE "C" NOT NULL,
    proved boolean NOT NULL,
    trades bigint,
    reason text COLLATE "C" NOT NULL,
    time timestamp with time zone NOT NULL,
    PRIMARY KEY (gap, state, producer, from_time)
) PARTITION BY RANGE (from_time);

CREATE TABLE id_gaps (
    gap text COLLATE "C" NOT NULL,
    feed text COLLATE "C" NOT NULL,
    symbol text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    producer text COLLATE "C" NOT NULL,
    from_id bigint NOT NULL,
    to_id bigint NOT NULL,
    after_time timestamp with time zone,
    before_time timestamp with time zone NOT NULL,
    obtained bigint NOT NULL,
    reason text COLLATE "C" NOT NULL,
    time timestamp with time zone NOT NULL,
    PRIMARY KEY (gap, state, producer, before_time)
) PARTITION BY RANGE (before_time);

CREATE TABLE events (
    component text COLLATE "C" NOT NULL,
    event text COLLATE "C" NOT NULL,
    time timestamp with time zone NOT NULL,
    detail text COLLATE "C" NOT NULL,
    PRIMARY KEY (component, event, time)
) PARTITION BY RANGE (time);

-- Beside the keys, which lead to a symbol: what leads to a time across all symbols.
CREATE INDEX candles_by_time ON candles (interval, open_time);
CREATE INDEX indicators_by_time ON indicators (interval, open_time);
CREATE INDEX signals_by_time ON signals (open_time);
CREATE INDEX aggregates_by_time ON aggregates USING brin (open_time);
CREATE INDEX windows_by_time ON windows USING brin (end_time);
CREATE INDEX trade_windows_by_time ON trade_windows USING brin (end_time);

-- Written in the transaction that writes the rows. A topic that was made anew has another id, and so no position yet.
CREATE TABLE positions (
    topic_id text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    topic text COLLATE "C" NOT NULL,
    next_offset bigint NOT NULL,
    stored_time timestamp with time zone NOT NULL DEFAULT now(),
    PRIMARY KEY (topic_id, partition)
);
