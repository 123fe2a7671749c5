//! Who may connect and ask: certificates, API keys, tokens, and every route with each of them.

mod commands;
mod matrix;
mod names;
mod rotation;
mod scene;
mod tls;
mod tokens;
