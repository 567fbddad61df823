//! Reads the factors of a product: atoms with their powers, calls, fractions and roots.

use super::formula::{MOST_DEPTH, Parser, decimal, named, single};
use super::number::{Exact, Fuel, Function};
use super::token::{Bracket, Relation, Token, key};
use super::tree::{Constant, Expr};

/// Whether `token` can begin a factor, so that it multiplies what stands before it.
pub(super) fn starts(token: &Token) -> bool {
    match token {
        Token::Number(_) | Token::Name(_) | Token::Function(_) | Token::Operator(_) => true,
        Token::Open(bracket) => !matches!(bracket, Bracket::Curly | Bracket::Environment(_)),
        Token::Command(name) => matches!(name.as_str(), "frac" | "sqrt" | "binom" | "sum" | "prod"),
        Token::Mark(mark) => *mark == '∞',
        _ => false,
    }
}

/// One factor with all that is written behind it.
pub(super) fn factor(parser: &mut Parser) -> Option<Expr> {
    if parser.depth >= MOST_DEPTH {
        return None;
    }
    parser.depth += 1;
    let value = atom(parser).and_then(|value| marked(parser, value));
    parser.depth -= 1;
    value
}

/// Marks behind one factor, at most.
const MOST_MARKS: usize = 6;

/// `value` with the powers, factorials, degrees and percents behind it.
pub(super) fn marked(parser: &mut Parser, mut value: Expr) -> Option<Expr> {
    let mut marks = 0;
    while let Some(mark) = parser.peek_mark() {
        marks += 1;
        if marks > MOST_MARKS {
            return None;
        }
        match mark {
            '^' => {
                parser.at += 1;
                value = power(parser, value)?;
            }
            '!' => {
                parser.at += 1;
                let twice = parser.eat('!');
                let function = if twice { Function::DoubleFactorial } else { Function::Factorial };
                value = Expr::Call(function, Box::new(value));
            }
            '%' => {
                parser.at += 1;
                value = Expr::Product(vec![value, Expr::Constant(Constant::Percent)]);
            }
            '°' => {
                parser.at += 1;
                value = Expr::Product(vec![value, Expr::Constant(Constant::Degree)]);
            }
            _ => break,
        }
    }
    Some(value)
}

fn atom(parser: &mut Parser) -> Option<Expr> {
    let source = parser.source;
    match parser.peek()? {
        Token::Number(text) => number(parser, text),
        Token::Name(name) => {
            parser.at += 1;
            named_factor(parser, name)
        }
        Token::Operator(name) => {
            parser.at += 1;
            let name = decorations(parser, name)?;
            match parser.opening() {
                Some(_) => Some(Expr::Apply(name, arguments(parser)?)),
                None => Some(Expr::Apply(name, vec![tight_product(parser, false)?])),
            }
        }
        Token::Function(function) => {
            parser.at += 1;
            call(parser, *function)
        }
        Token::Open(bracket) => {
            let round = match bracket {
                Bracket::Floor => Some(Function::Floor),
                Bracket::Ceil => Some(Function::Ceil),
                Bracket::Round | Bracket::Square | Bracket::Group => None,
                _ => return None,
            };
            let (_, end) = parser.opening()?;
            if let [Token::Number(digits)] = &source.tokens[parser.at + 1..end]
                && source.tokens.get(end + 1) == Some(&Token::Mark('_'))
            {
                parser.at = end;
                return number(parser, digits);
            }
            if round.is_none() && source.tokens.get(end) != Some(&Token::Close(bracket.clone())) {
                return None;
            }
            let inside = parser.group()?;
            Some(match round {
                Some(function) => Expr::Call(function, Box::new(inside)),
                None => inside,
            })
        }
        Token::Command(name) => {
            parser.at += 1;
            match name.as_str() {
                "frac" => {
                    let (above, below) = (argument(parser)?, argument(parser)?);
                    Some(Expr::Quotient(Box::new(above), Box::new(below)))
                }
                "binom" => {
                    let (above, below) = (argument(parser)?, argument(parser)?);
                    Some(Expr::Binomial(Box::new(above), Box::new(below)))
                }
                "sqrt" => root(parser),
                "sum" | "prod" => series(parser, name == "prod"),
                _ => None,
            }
        }
        Token::Mark('∞') => {
            parser.at += 1;
            Some(Expr::Constant(Constant::Infinity))
        }
        Token::Mark('|') => absolute(parser),
        _ => None,
    }
}

fn number(parser: &mut Parser, text: &str) -> Option<Expr> {
    let source = parser.source;
    parser.at += 1;
    if let Some(Token::Repeating(period)) = parser.peek() {
        parser.at += 1;
        return repeating(text, period, source.fuel).map(Expr::Number);
    }
    if parser.eat('_') {
        let base = subscript(parser)?;
        return in_base(text, base.trim_matches(['(', ')']).parse().ok()?, source.fuel).map(Expr::Number);
    }
    decimal(text, source.fuel).map(Expr::Number)
}

/// `0.1\overline{6}`: the whole is `(digits with the period - digits) / (10^n - 1) 10^m`.
fn repeating(text: &str, period: &str, fuel: &Fuel) -> Option<Exact> {
    if !text.contains('.') || period.is_empty() || period.len() > 500 {
        return None;
    }
    let start = decimal(text.trim_end_matches('.'), fuel)?;
    let places = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let cycle = Exact::from(10).pow(i64::try_from(period.len()).ok()?, fuel)?.add(&(-1).into(), fuel)?;
    let scale = Exact::from(10).pow(-i64::try_from(places).ok()?, fuel)?;
    let tail = decimal(period, fuel)?.mul(&cycle.recip()?, fuel)?.mul(&scale, fuel)?;
    start.add(&tail, fuel)
}

/// `204_5`: the digits in that base.
fn in_base(text: &str, base: u32, fuel: &Fuel) -> Option<Exact> {
    if !(2..=36).contains(&base) || text.len() > 500 {
        return None;
    }
    let mut value = Exact::from(0);
    for digit in text.chars() {
        let digit = i64::from(digit.to_digit(base)?);
        value = value.mul(&i64::from(base).into(), fuel)?.add(&digit.into(), fuel)?;
    }
    Some(value)
}

/// Symbols that are usually functions, so that a parenthesis behind them holds their argument.
const FUNCTION_LETTERS: [&str; 10] = ["f", "g", "h", "F", "G", "H", "phi", "psi", "Phi", "Psi"];

fn named_factor(parser: &mut Parser, name: &str) -> Option<Expr> {
    let written = decorations(parser, name)?;
    if written == name && matches!(name, "e" | "i" | "pi") {
        return Some(named(name));
    }
    let Some((bracket, end)) = parser.opening() else { return Some(Expr::Variable(written)) };
    let inside = &parser.source.tokens[parser.at + 1..end];
    let listed = inside.contains(&Token::Mark(','));
    let upper = name.starts_with(|c: char| c.is_ascii_uppercase());
    let letter = matches!(inside, [Token::Name(_)]) || (matches!(inside, [Token::Number(_)]) && name != "n");
    let event =
        inside.iter().any(|token| matches!(token, Token::Relation(_)) || (name == "P" && *token == Token::Mark('|')));
    let applied = match bracket {
        Bracket::Round => listed || letter || event || FUNCTION_LETTERS.contains(&name),
        Bracket::Square => listed || name.starts_with("bb ") || (upper && letter),
        _ => false,
    };
    if !applied {
        return Some(Expr::Variable(written));
    }
    if written == "C" && *bracket == Bracket::Round && listed {
        let mut pair = arguments(parser)?;
        return match (pair.pop(), pair.pop(), pair.pop()) {
            (Some(lower), Some(upper), None) => Some(Expr::Binomial(Box::new(upper), Box::new(lower))),
            _ => None,
        };
    }
    if inside.iter().any(|token| matches!(token, Token::Relation(_) | Token::Mark('|')))
        && !FUNCTION_LETTERS.contains(&name)
    {
        // `P(X = 1)` and `P(A | B)` only name a number.
        parser.at = end + 1;
        return Some(Expr::Variable(format!("{written}({})", key(inside))));
    }
    let shape = if *bracket == Bracket::Square { "[]" } else { "" };
    Some(Expr::Apply(format!("{written}{shape}"), arguments(parser)?))
}

/// Primes, subscripts and superscripts that are no powers belong to the name.
fn decorations(parser: &mut Parser, name: &str) -> Option<String> {
    let mut name = name.to_owned();
    loop {
        match parser.peek_mark() {
            Some('\'') => {
                parser.at += 1;
                name.push('\'');
            }
            Some('_') => {
                parser.at += 1;
                name.push('_');
                name.push_str(&subscript(parser)?);
            }
            Some('^') => match mark_above(parser) {
                Some((mark, end)) => {
                    parser.at = end;
                    name.push_str(&mark);
                }
                None => return Some(name),
            },
            _ => return Some(name),
        }
    }
}

/// A superscript that is no power, and where it ends: `^*`, `^+`, `^\top`, `^{\prime}`; `f^{(3)}`, `f^{-1}(x)`.
fn mark_above(parser: &Parser) -> Option<(String, usize)> {
    let tokens = parser.source.tokens;
    let at = parser.at + 1;
    let is_mark = |token: &Token| match token {
        Token::Mark(mark) => matches!(mark, '*' | '+' | '-' | '\''),
        Token::Name(name) => matches!(name.as_str(), "top" | "dagger"),
        _ => false,
    };
    match tokens.get(at)? {
        Token::Open(Bracket::Group) => {
            let end = parser.source.partner[at];
            let inside = tokens.get(at + 1..end)?;
            let call = matches!(tokens.get(end + 1), Some(Token::Open(Bracket::Round))) && end + 1 < parser.end;
            let inverse = matches!(inside, [Token::Mark('-'), Token::Number(one)] if one == "1");
            let function = matches!(tokens.get(parser.at - 1), Some(Token::Name(name)) if FUNCTION_LETTERS.contains(&name.as_str()));
            let derivative = matches!(inside, [Token::Open(Bracket::Round), .., Token::Close(Bracket::Round)]);
            let marked = inside.len() == 1 && is_mark(&inside[0]);
            let named = marked || (call && function && (inverse || derivative));
            (named && end < parser.end).then(|| (format!("^{}", key(inside)), end + 1))
        }
        // `x^-1` and `x^+y` are powers.
        token if is_mark(token) && !tokens.get(at + 1).is_some_and(starts) => {
            Some((format!("^{}", key(std::slice::from_ref(token))), at + 1))
        }
        _ => None,
    }
}

fn subscript(parser: &mut Parser) -> Option<String> {
    let start = parser.at;
    match parser.opening() {
        Some((Bracket::Group, end)) => {
            parser.at = end + 1;
            Some(key(&parser.source.tokens[start + 1..end]))
        }
        _ => {
            let token = parser.peek()?;
            parser.at += 1;
            Some(key(std::slice::from_ref(token)))
        }
    }
}

fn arguments(parser: &mut Parser) -> Option<Vec<Expr>> {
    let (_, end) = parser.opening()?;
    let mut arguments = Vec::new();
    let mut start = parser.at + 1;
    let mut at = start;
    while at <= end {
        match &parser.source.tokens[at] {
            token if at == end || *token == Token::Mark(',') => {
                arguments.push(parser.deeper(start, at)?);
                start = at + 1;
            }
            Token::Open(_) => at = parser.source.partner[at],
            _ => {}
        }
        at += 1;
    }
    parser.at = end + 1;
    Some(arguments)
}

/// A function with its power, its base and its argument: `\sin^2 x`, `\log_2 8`, `\ln(x)`.
fn call(parser: &mut Parser, mut function: Function) -> Option<Expr> {
    let (mut exponent, mut base) = (None, None);
    loop {
        if parser.eat('^') {
            let degree = script(parser)?;
            if degree == Expr::Negative(Box::new(Expr::integer(1)))
                && let Some(inverse) = function.inverse()
            {
                function = inverse;
            } else {
                exponent = Some(degree);
            }
        } else if parser.eat('_') {
            base = Some(script(parser)?);
        } else {
            break;
        }
    }
    let argument = match parser.opening() {
        Some((Bracket::Round | Bracket::Group | Bracket::Square, _)) => parser.group()?,
        _ => tight_product(parser, function.is_circular())?,
    };
    let value = match base {
        Some(base) if matches!(function, Function::Log | Function::Ln) => {
            Expr::Logarithm(Box::new(base), Box::new(argument))
        }
        Some(_) => return None,
        None => Expr::Call(function, Box::new(argument)),
    };
    Some(match exponent {
        Some(exponent) => Expr::Power(Box::new(value), Box::new(exponent)),
        None => value,
    })
}

/// An argument without parentheses: what is multiplied without a sign, up to the next function. `\sin \pi/4` takes its
/// divisor too, for a sine of pi is never meant.
fn tight_product(parser: &mut Parser, angle: bool) -> Option<Expr> {
    let negative = parser.eat('-');
    let mut parts = vec![factor(parser)?];
    while let Some(token) = parser.peek() {
        let bracket = matches!(token, Token::Open(Bracket::Round | Bracket::Square));
        if !starts(token) || bracket || matches!(token, Token::Function(_) | Token::Operator(_)) {
            break;
        }
        parts.push(factor(parser)?);
    }
    let turn = parts.last() == Some(&Expr::Constant(Constant::Pi));
    let mut argument = single(parts, Expr::Product);
    if angle && turn && parser.eat('/') {
        argument = Expr::Quotient(Box::new(argument), Box::new(factor(parser)?));
    }
    Some(if negative { Expr::Negative(Box::new(argument)) } else { argument })
}

/// An argument of `\frac` or `\sqrt`: a group, or one character.
fn argument(parser: &mut Parser) -> Option<Expr> {
    match parser.peek()? {
        Token::Open(Bracket::Group) => parser.group(),
        Token::Number(digits) => number(parser, digits),
        Token::Name(name) => {
            parser.at += 1;
            Some(named(name))
        }
        Token::Command(_) | Token::Mark('∞') => bare(parser),
        Token::Open(Bracket::Round) => parser.group(),
        _ => None,
    }
}

/// A factor without what is written behind it, one level further down.
fn bare(parser: &mut Parser) -> Option<Expr> {
    if parser.depth >= MOST_DEPTH {
        return None;
    }
    parser.depth += 1;
    let value = atom(parser);
    parser.depth -= 1;
    value
}

fn root(parser: &mut Parser) -> Option<Expr> {
    let degree = match parser.opening() {
        Some((Bracket::Square, _)) => parser.group()?,
        _ => Expr::integer(2),
    };
    let radicand = argument(parser)?;
    Some(Expr::Root(Box::new(radicand), Box::new(degree)))
}

fn power(parser: &mut Parser, base: Expr) -> Option<Expr> {
    let inside = match parser.opening() {
        Some((Bracket::Group, end)) => &parser.source.tokens[parser.at + 1..end],
        _ => parser.source.tokens.get(parser.at..parser.end.min(parser.at + 1))?,
    };
    let letter_o = |token: &Token| matches!(token, Token::Name(name) | Token::Word(name) if name == "o");
    if inside == [Token::Mark('°')] || (matches!(base, Expr::Number(_)) && inside.len() == 1 && letter_o(&inside[0])) {
        script_end(parser)?;
        return Some(Expr::Product(vec![base, Expr::Constant(Constant::Degree)]));
    }
    Some(Expr::Power(Box::new(base), Box::new(script(parser)?)))
}

fn script_end(parser: &mut Parser) -> Option<()> {
    parser.at = match parser.opening() {
        Some((_, end)) => end + 1,
        None => parser.at + 1,
    };
    Some(())
}

/// A superscript or subscript that is a formula: a group, or one signed token.
fn script(parser: &mut Parser) -> Option<Expr> {
    if let Some((Bracket::Group, _)) = parser.opening() {
        return parser.group();
    }
    let negative = parser.eat('-');
    let value = match parser.peek()? {
        Token::Number(text) => {
            parser.at += 1;
            decimal(text, parser.source.fuel).map(Expr::Number)?
        }
        Token::Name(name) => {
            parser.at += 1;
            named(name)
        }
        // `e^(x+1)` and `2^\frac{1}{2}` are not TeX, but what is meant is plain.
        Token::Open(Bracket::Round) => parser.group()?,
        Token::Command(_) | Token::Mark('∞') => bare(parser)?,
        _ => return None,
    };
    Some(if negative { Expr::Negative(Box::new(value)) } else { value })
}

/// `\sum_{k=1}^{n} k^2`
fn series(parser: &mut Parser, product: bool) -> Option<Expr> {
    if !parser.eat('_') {
        return None;
    }
    let (_, end) = parser.opening()?;
    let Some([Token::Name(index), Token::Relation(Relation::Equal)]) =
        parser.source.tokens.get(parser.at + 1..parser.at + 3)
    else {
        return None;
    };
    let first = parser.deeper(parser.at + 3, end)?;
    parser.at = end + 1;
    if !parser.eat('^') {
        return None;
    }
    let last = script(parser)?;
    let body = Box::new(parser.product()?);
    Some(Expr::Series { product, index: index.clone(), bounds: Box::new((first, last)), body })
}

/// `|x|`
fn absolute(parser: &mut Parser) -> Option<Expr> {
    if parser.depth >= MOST_DEPTH {
        return None;
    }
    parser.at += 1;
    let mut inner = Parser { source: parser.source, at: parser.at, end: parser.end, depth: parser.depth + 1, bars: 1 };
    let inside = inner.sum()?;
    if !inner.eat('|') {
        return None;
    }
    parser.at = inner.at;
    Some(Expr::Call(Function::Abs, Box::new(inside)))
}
