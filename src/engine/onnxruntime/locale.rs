//! Locales, which `StringNormalizer` takes from the operating system: most containers have none but `C.UTF-8`.

use crate::engine::one_line;

/// What ONNX Runtime says when there is no such locale; its name comes next, up to a colon.
const MISSING: &str = "Failed to construct locale with name:";

/// The words of ONNX Runtime on one line, with what to do about a locale that is missing.
pub(super) fn explained(error: &ort::Error<impl Sized>) -> String {
    explained_text(&error.to_string())
}

fn explained_text(text: &str) -> String {
    let line = one_line(text);
    let Some((_, rest)) = line.split_once(MISSING) else {
        return line;
    };
    let name = rest.split(':').next().unwrap_or_default();
    format!(
        "this system has no locale `{name}`, which `StringNormalizer` needs: install it (in Debian's package `locales`), serve with \
         the image `full` for `en_US.UTF-8`, or export the model with the attribute `locale=\"C.UTF-8\"` ({line})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_locale_is_told_with_what_to_do() {
        let said = "Exception during initialization: string_normalizer.cc:235 Locale::Locale(const std::string&)::<lambda()> \
            Failed to construct locale with name:en_US.UTF-8:locale::facet::_S_create_c_locale name not valid:Please, install\n\
            necessary language-pack-en and configure locales";
        let described = explained_text(said);
        assert!(
            described.starts_with("this system has no locale `en_US.UTF-8`, which"),
            "{described}"
        );
        assert!(
            described.contains("attribute `locale=\"C.UTF-8\"`"),
            "{described}"
        );
        assert!(
            described.ends_with("necessary language-pack-en and configure locales)"),
            "{described}"
        );
        assert_eq!(explained_text("no such\noperator"), "no such operator");
    }
}
