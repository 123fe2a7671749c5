//! Counts of certificates and callers.

use super::Metrics;

impl Metrics {
    /// A request was refused because of who asked.
    pub fn auth_refused(&self, reason: &'static str) {
        let refusals = &self.families().trust.refusals;
        refusals.with_label_values(&[reason]).inc();
    }

    /// The certificate files changed.
    pub fn tls_reloaded(&self, outcome: &'static str) {
        let reloads = &self.families().trust.tls_reloads;
        reloads.with_label_values(&[outcome]).inc();
    }

    /// When the certificate that is shown expires, in seconds of Unix.
    pub fn tls_expires(&self, at: i64) {
        let expiry = &self.families().trust.tls_expiry;
        expiry.with_label_values::<&str>(&[]).set(at);
    }
}
