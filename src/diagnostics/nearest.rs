//! Which known word a misspelt one was meant to be.

/// The candidate that is most like `word`, if one is like it enough: at most a third of its
/// letters wrong, case and underscores counting little.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = simplified(word);
    if plain.is_empty() {
        return None;
    }
    let limit = (plain.chars().count() / 3).clamp(1, 4);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        if candidate == word {
            continue;
        }
        let other = simplified(candidate);
        let distance = strsim::damerau_levenshtein(&plain, &other);
        // Words of two letters are all alike: one of them must start in the same way.
        let short = other.chars().count() <= 2 && other.chars().next() != plain.chars().next();
        // Letters are left out or doubled at the end more often than they are mistaken.
        let rank = 2 * distance + usize::from(!other.starts_with(&plain));
        if distance <= limit && !short && best.is_none_or(|(least, _)| rank < least) {
            best = Some((rank, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

fn simplified(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_by_likeness() {
        let check = |word: &str, expected: Option<&str>| {
            let known =
                ["rad", "rate", "irate", "increase", "avg_over_time", "by", "sum", "severity"];
            assert_eq!(nearest(word, known), expected, "{word}");
        };
        check("rat", Some("rate"));
        check("increse", Some("increase"));
        check("avgOverTime", Some("avg_over_time"));
        check("average_over_time", Some("avg_over_time"));
        check("bye", Some("by"));
        check("to", None);
        check("xyzzy", None);
        check("serverity", Some("severity"));
        check("é", None);
        check("", None);
    }
}
