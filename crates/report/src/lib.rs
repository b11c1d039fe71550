//! Plan, journal and measurements to JSON and one self-contained HTML page. Computes nothing.
