//! Reads whole answers: lists, relations, unions, and what they are made of.

use super::formula::formula;
use super::join::joined_by;
use super::lexer::{Lexed, Reading, lex};
use super::number::Fuel;
use super::parser::{Source, partners};
use super::reader::{MOST_DEPTH, Reader};
use super::token::{Bracket, Relation, Token, key};
use super::tree::Answer;

/// The answer that `lexed` spells; `None` for what is not understood.
pub(super) fn read(lexed: &Lexed, fuel: &Fuel) -> Option<Answer> {
    let partner = partners(&lexed.tokens)?;
    let source = Source { tokens: &lexed.tokens, spaced: &lexed.spaced, partner: &partner, fuel };
    Reader { source }.answer(0, lexed.tokens.len(), 0)
}

/// The tokens of an answer, without the punctuation around it.
pub(super) fn tokens(text: &str, reading: Reading) -> Option<Lexed> {
    let mut lexed = lex(text, reading)?;
    unbrace_separators(&mut lexed);
    outward_brackets(&mut lexed.tokens);
    let idle = |token: &Token| matches!(token, Token::Mark('.' | ',' | ';' | ':' | '\n'));
    while lexed.tokens.last().is_some_and(|token| idle(token) && *token != Token::Mark(':')) {
        lexed.tokens.pop();
        lexed.spaced.pop();
    }
    let leading = lexed.tokens.iter().take_while(|token| idle(token)).count();
    lexed.tokens.drain(..leading);
    lexed.spaced.drain(..leading);
    Some(lexed)
}

impl Reader<'_> {
    /// One statement, or a list of them.
    pub(super) fn answer(&self, start: usize, end: usize, depth: usize) -> Option<Answer> {
        if depth > MOST_DEPTH {
            return None;
        }
        let joined = |token: &Token| match token {
            Token::Mark(',' | ';') => true,
            Token::Word(word) => word == "and" || word == "or",
            _ => false,
        };
        let tokens = self.source.tokens;
        let is_or = |token: &Token| matches!(token, Token::Word(word) if word == "or");
        // `\frac{1}{2} \text{ (or 0.5)}`
        if let Some(Token::Close(Bracket::Round)) = tokens.get(end.wrapping_sub(1))
            && let open = self.source.partner[end - 1]
            && open > start
            && tokens.get(open + 1).is_some_and(is_or)
        {
            let parts = [self.answer(start, open, depth + 1)?, self.answer(open + 2, end - 1, depth + 1)?];
            return joined_by(parts.into(), true);
        }
        // `\frac{3}{4}\ (= 0.75)`
        if let Some(Token::Close(Bracket::Round)) = tokens.get(end.wrapping_sub(1))
            && let open = self.source.partner[end - 1]
            && open > start
            && let Some(Token::Relation(relation @ (Relation::Equal | Relation::About))) = tokens.get(open + 1)
        {
            let sides = vec![self.answer(start, open, depth + 1)?, self.answer(open + 2, end - 1, depth + 1)?];
            return Some(Answer::Relation { sides, relations: vec![*relation] });
        }
        // A conjunction with nothing behind it leaves something out.
        if end > start && matches!(&tokens[end - 1], Token::Word(word) if word == "or" || word == "and") {
            return None;
        }
        let mut parts = Vec::new();
        for (from, to) in self.split(start, end, joined) {
            if from < to {
                parts.push(self.statement(from, to, depth)?);
            }
        }
        let either = self.source.find(start, end, is_or).is_some();
        joined_by(parts, either)
    }

    /// Sides joined by relations.
    pub(super) fn statement(&self, start: usize, end: usize, depth: usize) -> Option<Answer> {
        let tokens = self.source.tokens;
        let mut sides = Vec::new();
        let mut relations = Vec::new();
        for (from, to) in self.split(start, end, |token| matches!(token, Token::Relation(_))) {
            if from > start
                && let Token::Relation(relation) = &tokens[from - 1]
            {
                relations.push(*relation);
            }
            if from < to {
                let side = self.side(from, to, depth);
                let named = || (from == start && to < end).then(|| self.operation(from, to))?;
                sides.push(side.or_else(named)?);
            } else if from > start {
                return None;
            }
        }
        // `= 5` and `\approx 5` mean `5`.
        if matches!(relations.first(), Some(Relation::Equal | Relation::About)) && sides.len() == relations.len() {
            relations.remove(0);
        }
        match (sides.len(), relations.len()) {
            (1, 0) => sides.pop(),
            (sides_count, count) if sides_count == count + 1 => Some(Answer::Relation { sides, relations }),
            _ => None,
        }
    }

    /// A limit or an integral, which is not worked out: left of a relation it only names what stands right of it.
    fn operation(&self, start: usize, end: usize) -> Option<Answer> {
        let tokens = &self.source.tokens[start..end];
        let Token::Command(name) = tokens.first()? else { return None };
        matches!(name.as_str(), "lim" | "int" | "iint" | "iiint" | "oint").then(|| Answer::Words(key(tokens)))
    }

    /// What stands on one side of a relation.
    fn side(&self, start: usize, end: usize, depth: usize) -> Option<Answer> {
        if depth > MOST_DEPTH || start >= end {
            return None;
        }
        let source = self.source;
        let united = self.split_at(start, end, |at| self.is_union(start, at, end));
        if united.len() > 1 {
            let parts = united.into_iter().map(|(from, to)| self.side(from, to, depth + 1));
            return parts.collect::<Option<_>>().map(Answer::Union);
        }
        let common = self.split(start, end, |token| *token == Token::Mark('∩'));
        if common.len() > 1 {
            let parts = common.into_iter().map(|(from, to)| self.side(from, to, depth + 1));
            return parts.collect::<Option<_>>().map(Answer::Intersection);
        }
        let without = source.find(start, end, |token| *token == Token::Mark('∖')).or_else(|| {
            // `\mathbb{R} - \{0\}`
            let set = source.find(start, end, |token| *token == Token::Open(Bracket::Curly))?;
            (set > start + 1 && source.tokens[set - 1] == Token::Mark('-')).then(|| set - 1)
        });
        if let Some(at) = without {
            let (left, right) = (self.side(start, at, depth + 1)?, self.side(at + 1, end, depth + 1)?);
            return Some(Answer::Without(Box::new(left), Box::new(right)));
        }
        let ratio = self.split(start, end, |token| *token == Token::Mark(':'));
        if ratio.len() > 1 {
            let clock = self.clock(start, end);
            if let Some(clock) = clock.clone().filter(|clock| clock.half.is_some()) {
                return Some(Answer::Clock(clock));
            }
            let parts = ratio.into_iter().map(|(from, to)| formula(source, from, to, 0)).collect::<Option<_>>()?;
            return Some(Answer::Ratio { parts, clock });
        }
        if let Some(answer) = self.bracketed(start, end, depth) {
            return Some(answer);
        }
        self.words(start, end).or_else(|| self.quantity(start, end)).or_else(|| self.scaled_matrix(start, end))
    }

    /// `\cup`, or the letter `U` between brackets.
    fn is_union(&self, start: usize, at: usize, end: usize) -> bool {
        let tokens = self.source.tokens;
        match &tokens[at] {
            Token::Mark('∪') => true,
            Token::Name(name) if name == "U" && at > start && at + 1 < end => {
                matches!((&tokens[at - 1], &tokens[at + 1]), (Token::Close(_), Token::Open(_)))
            }
            _ => false,
        }
    }
}

/// Takes the braces off `3{:}45`, which only change the space around the sign, and drops empty ones.
fn unbrace_separators(lexed: &mut Lexed) {
    let mut at = 0;
    while at + 2 < lexed.tokens.len() {
        if let [Token::Open(Bracket::Group), Token::Mark(':' | ',' | ';'), Token::Close(Bracket::Group)] =
            &lexed.tokens[at..at + 3]
        {
            lexed.remove(at + 2);
            lexed.remove(at);
        }
        let argument =
            at > 0 && matches!(&lexed.tokens[at - 1], Token::Command(_) | Token::Mark('^' | '_') | Token::Close(_));
        if !argument && lexed.tokens[at..].starts_with(&[Token::Open(Bracket::Group), Token::Close(Bracket::Group)]) {
            lexed.remove(at + 1);
            lexed.remove(at);
        }
        at += 1;
    }
}

/// Turns the brackets of intervals that are written outwards, `]2, 3]`, into round ones.
fn outward_brackets(tokens: &mut [Token]) {
    if partners(tokens).is_some() {
        return;
    }
    // How many brackets are open inside of an interval, and whether its comma was there.
    let (mut open, mut comma) = (0usize, false);
    for at in 0..tokens.len() {
        let last = !matches!(tokens.get(at + 1), Some(next) if !matches!(next, Token::Mark('∪' | '∩' | '∖' | ',' | '.') | Token::Word(_)));
        match &tokens[at] {
            Token::Close(Bracket::Square) if open == 0 => {
                tokens[at] = Token::Open(Bracket::Round);
                (open, comma) = (1, false);
            }
            Token::Open(Bracket::Square) if open == 1 && comma && last => {
                tokens[at] = Token::Close(Bracket::Round);
                open = 0;
            }
            Token::Open(Bracket::Square | Bracket::Round) => {
                comma &= open > 0;
                open += 1;
            }
            Token::Close(Bracket::Square | Bracket::Round) => open = open.saturating_sub(1),
            Token::Mark(',' | ';') if open == 1 => comma = true,
            _ => {}
        }
    }
}
