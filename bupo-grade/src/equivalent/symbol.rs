//! Commands, characters and plain words that stand for fixed tokens.

use super::number::Function;
use super::token::{Bracket, Relation, Token};

/// The tokens of a LaTeX command without arguments; none for what only changes the look.
pub(super) fn command(name: &str) -> Option<Vec<Token>> {
    let token = match name {
        "displaystyle" | "textstyle" | "scriptstyle" | "limits" | "nolimits" | "quad" | "qquad" | "big" | "Big"
        | "bigg" | "Bigg" | "bigl" | "bigr" | "Bigl" | "Bigr" | "biggl" | "biggr" | "Biggl" | "Biggr" | "bigm"
        | "Bigm" | "thinspace" | "medspace" | "enspace" | "hfill" | "middle" | "space" | "nobreakspace"
        | "negthinspace" | "hline" | "mathclose" | "mathopen" | "mathord" | "mathbin" | "mathrel" | "mathinner"
        | "mathpunct" | "mathstrut" | "strut" | "smash" | "ensuremath" | "tiny" | "scriptsize" | "footnotesize"
        | "small" | "normalsize" | "large" | "Large" | "LARGE" | "huge" | "Huge" | "scriptscriptstyle" | "sf"
        | "tt" | "sl" | "sc" | "cal" | "em" | "boldmath" | "bfseries" | "itshape" | "rmfamily" | "sffamily"
        | "ttfamily" | "null" | "relax" | "allowbreak" | "nobreak" | "noindent" | "nonumber" | "notag" | "par"
        | "protect" | "enskip" | "thickspace" | "leavevmode" | "displaylimits" | "rlap" | "llap" | "clap"
        | "displaylines" | "newline" | "linebreak" => {
            return Some(Vec::new());
        }
        "frac" | "dfrac" | "tfrac" | "cfrac" => Token::Command("frac".to_owned()),
        "binom" | "dbinom" | "tbinom" => Token::Command("binom".to_owned()),
        "cdot" | "times" | "ast" | "bullet" | "cdotp" => Token::Mark('*'),
        "div" => Token::Mark('/'),
        "pm" => Token::Mark('±'),
        "mp" => Token::Mark('∓'),
        "infty" => Token::Mark('∞'),
        "circ" | "degree" => Token::Mark('°'),
        "cup" | "bigcup" => Token::Mark('∪'),
        "cap" | "bigcap" => Token::Mark('∩'),
        "setminus" | "backslash" | "smallsetminus" => Token::Mark('∖'),
        "emptyset" | "varnothing" => return Some(vec![Token::Open(Bracket::Curly), Token::Close(Bracket::Curly)]),
        "vert" | "lvert" | "rvert" | "mid" => Token::Mark('|'),
        "Vert" | "lVert" | "rVert" | "parallel" => Token::Mark('‖'),
        "colon" => Token::Mark(':'),
        "prime" => Token::Mark('\''),
        "percent" => Token::Mark('%'),
        "pounds" | "textsterling" => Token::Mark('£'),
        "euro" | "texteuro" => Token::Mark('€'),
        "yen" | "textyen" => Token::Mark('¥'),
        "rupee" => Token::Mark('₹'),
        "textdollar" => Token::Mark('$'),
        "textcent" => Token::Mark('¢'),
        "lbrace" => Token::Open(Bracket::Curly),
        "rbrace" => Token::Close(Bracket::Curly),
        "lbrack" => Token::Open(Bracket::Square),
        "rbrack" => Token::Close(Bracket::Square),
        "lparen" => Token::Open(Bracket::Round),
        "rparen" => Token::Close(Bracket::Round),
        "langle" => Token::Open(Bracket::Angle),
        "rangle" => Token::Close(Bracket::Angle),
        "lfloor" => Token::Open(Bracket::Floor),
        "rfloor" => Token::Close(Bracket::Floor),
        "lceil" => Token::Open(Bracket::Ceil),
        "rceil" => Token::Close(Bracket::Ceil),
        "ldots" | "cdots" | "dots" | "dotsc" | "dotsb" | "vdots" | "ddots" => Token::Mark('…'),
        "land" | "wedge" => Token::Word("and".to_owned()),
        "lor" | "vee" => Token::Word("or".to_owned()),
        "R" | "Z" | "Q" | "N" => Token::Name(format!("bb {name}")),
        "imath" => Token::Name("i".to_owned()),
        "exp" | "ln" | "log" | "lg" => return logarithmic(name),
        _ => return relation(name).or_else(|| letter(name)).or_else(|| named(name)).map(|token| vec![token]),
    };
    Some(vec![token])
}

/// A character that is not ASCII, or means what a command does.
pub(super) fn character(c: char) -> Option<Vec<Token>> {
    let name = match c {
        '\u{2212}' | '–' | '—' => return Some(vec![Token::Mark('-')]),
        '×' | '·' | '⋅' | '∙' | '•' => "cdot",
        '÷' => "div",
        '⁄' | '∕' => return Some(vec![Token::Mark('/')]),
        '√' => "sqrt",
        'π' => "pi",
        '∞' => "infty",
        '≤' | '⩽' => "le",
        '≥' | '⩾' => "ge",
        '≠' => "ne",
        '≈' => "approx",
        '∈' => "in",
        '∪' => "cup",
        '∩' => "cap",
        '∖' => "setminus",
        '∅' => "emptyset",
        'ℝ' => return Some(vec![Token::Name("bb R".to_owned())]),
        'ℤ' => return Some(vec![Token::Name("bb Z".to_owned())]),
        'ℚ' => return Some(vec![Token::Name("bb Q".to_owned())]),
        'ℕ' => return Some(vec![Token::Name("bb N".to_owned())]),
        'ℂ' => return Some(vec![Token::Name("bb C".to_owned())]),
        '…' => "dots",
        '→' => "to",
        '′' | '’' => "prime",
        '⌊' => "lfloor",
        '⌋' => "rfloor",
        '⌈' => "lceil",
        '⌉' => "rceil",
        '⟨' => "langle",
        '⟩' => "rangle",
        '¼'..='¾' | '⅐'..='⅞' => return vulgar(c),
        '°' => return Some(vec![Token::Mark('°')]),
        _ => return greek(c),
    };
    command(name).or_else(|| Some(vec![Token::Command(name.to_owned())]))
}

/// A run of plain letters that is one token: a function, a constant's name, a word that joins answers.
pub(super) fn plain_word(run: &str) -> Option<Token> {
    if run.len() < 2 {
        return None;
    }
    Some(match run {
        "pi" | "Pi" | "alpha" | "beta" | "gamma" | "delta" | "theta" | "lambda" | "mu" | "sigma" | "phi" | "omega" => {
            Token::Name(run.to_lowercase())
        }
        "infinity" | "Infinity" | "infty" | "inf" | "oo" => Token::Mark('∞'),
        "sqrt" => Token::Command("sqrt".to_owned()),
        "degrees" | "degree" | "deg" => Token::Mark('°'),
        "percent" => Token::Mark('%'),
        "Re" | "Im" => return None,
        _ => match Function::named(run) {
            Some(function) => Token::Function(function),
            None => return separator(run),
        },
    })
}

/// A word that separates answers, or that an operation is spelled with.
pub(super) fn separator(word: &str) -> Option<Token> {
    Some(match word {
        "and" | "And" | "," | "or" | "Or" => Token::Word(word.to_lowercase()),
        "degrees" | "degree" | "deg" => Token::Mark('°'),
        "percent" => Token::Mark('%'),
        "infinity" => Token::Mark('∞'),
        "in" => Token::Relation(Relation::In),
        // `2 \text{ to } 3`
        "to" => Token::Mark(':'),
        _ => return None,
    })
}

fn relation(name: &str) -> Option<Token> {
    let relation = match name {
        "le" | "leq" | "leqslant" => Relation::AtMost,
        "ge" | "geq" | "geqslant" => Relation::AtLeast,
        "lt" => Relation::Less,
        "gt" => Relation::Greater,
        "ne" | "neq" => Relation::NotEqual,
        "in" => Relation::In,
        "approx" | "simeq" | "thickapprox" => Relation::About,
        "equiv" => Relation::Other("equiv"),
        "cong" => Relation::Other("cong"),
        "sim" => Relation::Other("sim"),
        "to" | "rightarrow" | "longrightarrow" => Relation::Other("to"),
        "mapsto" => Relation::Other("mapsto"),
        "implies" | "Rightarrow" | "Longrightarrow" => Relation::Other("implies"),
        "iff" | "Leftrightarrow" => Relation::Other("iff"),
        "subset" | "subseteq" => Relation::Other("subset"),
        "supset" | "supseteq" => Relation::Other("supset"),
        "notin" => Relation::Other("notin"),
        "propto" => Relation::Other("propto"),
        "perp" => Relation::Other("perp"),
        "ll" => Relation::Other("ll"),
        "gg" => Relation::Other("gg"),
        _ => return None,
    };
    Some(Token::Relation(relation))
}

fn letter(name: &str) -> Option<Token> {
    let name = match name {
        "varepsilon" => "epsilon",
        "varphi" => "phi",
        "vartheta" => "theta",
        "varrho" => "rho",
        "varsigma" => "sigma",
        "alpha" | "beta" | "gamma" | "delta" | "epsilon" | "zeta" | "eta" | "theta" | "iota" | "kappa" | "lambda"
        | "mu" | "nu" | "xi" | "pi" | "rho" | "sigma" | "tau" | "upsilon" | "phi" | "chi" | "psi" | "omega"
        | "Gamma" | "Delta" | "Theta" | "Lambda" | "Xi" | "Pi" | "Sigma" | "Upsilon" | "Phi" | "Psi" | "Omega"
        | "ell" | "hbar" | "aleph" | "wp" | "partial" | "nabla" | "top" | "dagger" | "triangle" | "angle" => name,
        _ => return None,
    };
    Some(Token::Name(name.to_owned()))
}

fn named(name: &str) -> Option<Token> {
    match name {
        "det" | "gcd" | "lcm" | "min" | "max" | "dim" | "ker" | "deg" | "Pr" | "sup" | "hom" => {
            Some(Token::Operator(name.to_owned()))
        }
        _ => Function::named(name).map(Token::Function),
    }
}

fn logarithmic(name: &str) -> Option<Vec<Token>> {
    if name == "lg" {
        return Some(vec![Token::Function(Function::Log), Token::Mark('_'), Token::Number("10".to_owned())]);
    }
    Function::named(name).map(|function| vec![Token::Function(function)])
}

fn vulgar(c: char) -> Option<Vec<Token>> {
    let (numerator, denominator) = match c {
        '½' => ("1", "2"),
        '⅓' => ("1", "3"),
        '⅔' => ("2", "3"),
        '¼' => ("1", "4"),
        '¾' => ("3", "4"),
        '⅐' => ("1", "7"),
        '⅑' => ("1", "9"),
        '⅒' => ("1", "10"),
        '⅕' => ("1", "5"),
        '⅖' => ("2", "5"),
        '⅗' => ("3", "5"),
        '⅘' => ("4", "5"),
        '⅙' => ("1", "6"),
        '⅚' => ("5", "6"),
        '⅛' => ("1", "8"),
        '⅜' => ("3", "8"),
        '⅝' => ("5", "8"),
        '⅞' => ("7", "8"),
        _ => return None,
    };
    let number = |digits: &str| Token::Number(digits.to_owned());
    Some(vec![Token::Command("frac".to_owned()), number(numerator), number(denominator)])
}

/// A superscript or subscript character as `^` or `_` with the plain character.
pub(super) fn small(c: char) -> Option<(char, char)> {
    const ABOVE: &str = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ";
    const BELOW: &str = "₀₁₂₃₄₅₆₇₈₉₊₋ₙ";
    let plain = |small: &str| small.chars().position(|other| other == c).and_then(|at| "0123456789+-n".chars().nth(at));
    plain(ABOVE).map(|plain| ('^', plain)).or_else(|| plain(BELOW).map(|plain| ('_', plain)))
}

fn greek(c: char) -> Option<Vec<Token>> {
    const NAMES: [&str; 25] = [
        "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu",
        "xi", "omicron", "pi", "rho", "sigma", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
    ];
    if c == 'Ω' {
        return Some(vec![Token::Name("Omega".to_owned())]);
    }
    let at = (c as usize).checked_sub('α' as usize)?;
    NAMES.get(at).map(|name| vec![Token::Name((*name).to_owned())])
}
