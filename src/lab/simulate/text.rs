//! Writing JSON as Go does, without a detour.

/// What is being written, and where in it something belongs that is the same for all.
#[derive(Debug, Default)]
pub(super) struct Text(pub(super) Vec<u8>, pub(super) Option<usize>);

impl Text {
    pub(super) fn clear(&mut self) {
        self.0.clear();
        self.1 = None;
    }

    /// Leaves out what is the same for all servers.
    pub(super) fn shared_here(&mut self) {
        self.1 = Some(self.0.len());
    }

    /// As it is.
    pub(super) fn raw(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// A string that needs no escape: names and addresses here are our own.
    pub(super) fn string(&mut self, text: &str) -> &mut Self {
        self.raw("\"").raw(text).raw("\"")
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.digits(number, 1)
    }

    /// With zeros in front, up to this width.
    fn digits(&mut self, mut number: u64, width: usize) -> &mut Self {
        let mut digits = [b'0'; 20];
        let mut used = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
            used += 1;
            if number == 0 && used >= width {
                break;
            }
        }
        self.0.extend_from_slice(digits.get(20 - used..).unwrap_or_default());
        self
    }

    /// RFC 3339 with the decimals that are needed, in quotes.
    pub(super) fn time(&mut self, nanos: u64) -> &mut Self {
        let (seconds, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        // From days to a date: <https://howardhinnant.github.io/date_algorithms.html>, for years after 1970.
        let z = days + 719_468;
        let (era, day_of_era) = (z / 146_097, z % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        self.raw("\"").digits(year, 4).raw("-").digits(month, 2).raw("-").digits(day, 2).raw("T");
        self.digits(second / 3_600, 2).raw(":").digits(second / 60 % 60, 2).raw(":").digits(second % 60, 2);
        self.fraction(fraction, 9).raw("Z\"")
    }

    fn fraction(&mut self, mut fraction: u64, mut width: usize) -> &mut Self {
        if fraction == 0 {
            return self;
        }
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            width -= 1;
        }
        self.raw(".").digits(fraction, width)
    }

    /// How long something lasts, in whole seconds and quotes, as the servers tell it: `1d2h3m4s`.
    pub(super) fn uptime(&mut self, nanos: u64) -> &mut Self {
        let seconds = nanos / 1_000_000_000;
        self.raw("\"");
        if seconds >= 86_400 {
            self.number(seconds / 86_400).raw("d");
        }
        if seconds >= 3_600 {
            self.number(seconds / 3_600 % 24).raw("h");
        }
        if seconds >= 60 {
            self.number(seconds / 60 % 60).raw("m");
        }
        self.number(seconds % 60).raw("s\"")
    }

    /// A duration as Go prints it, in quotes.
    pub(super) fn micros(&mut self, micros: u64) -> &mut Self {
        self.raw("\"");
        match micros {
            0 => self.raw("0s"),
            1..1_000 => self.number(micros).raw("µs"),
            1_000..1_000_000 => self.number(micros / 1_000).fraction(micros % 1_000, 3).raw("ms"),
            _ => self.number(micros / 1_000_000).fraction(micros % 1_000_000, 6).raw("s"),
        };
        self.raw("\"")
    }

    /// Takes back a comma.
    pub(super) fn no_comma(&mut self) -> &mut Self {
        if self.0.last() == Some(&b',') {
            self.0.pop();
        }
        self
    }
}
