"""Plots with a beginning, a trouble and an end. `/` starts a new paragraph; see expand.py for the notation.

Each entry: (what the story is about, its template). START and END are shared by most plots.
"""

from __future__ import annotations

START = """[Once upon a time|Once|Long ago|In a land far away,|A long time ago] [there was|there lived] a
{trait} {kind}
[named|called] {N}. [{N} lived in {home}[| with {his} {parent}|, not far from {place}].|{He} lived in {home}.|
{N} [loved|liked] {game} [very much|more than anything|every day].|Everyone [knew|liked] {N}.|] """

DAY = "[One day|One morning|One sunny day|One afternoon|One [cold|warm|bright|windy] [day|morning]|Then one day], "

END = """ / [From that day on, {N} and {F} were [best|the best of|good|true] friends.|{N} felt {glad}.|They
[played|laughed]
together until the sun went down.|That night, {N} [slept very well|went to bed with a smile|had sweet
dreams].|And they all
lived happily ever after.|{N} [learned|knew now] that {moral}.|"{Moral}," said {N}, and {F}
[smiled|nodded].|And so {N} learned that
{moral}.|It was the best day ever.|{N} never forgot that day.|{N} and {F} walked home together, [happy and
tired|singing a song|hand
in hand].|] [|||The end.]"""

PLOTS: dict[str, tuple[str, str]] = {
    "lost": (
        "a lost {thing}",
        START
        + DAY
        + """{N} could not find {his} {toy}. [{He} looked [under the bed|in the box|behind the chair] and [on
        the shelf|in the
        garden|under the table], but it was not there.|{He} looked everywhere.] "Oh no! Where is my {thing}?"
        {he} [cried|said].
        {N} felt [very |]{sad}. / [{N} went to {place} and|On the way to {place}, {he}] met {F} the {fkind}.
        "[Have you seen|Did you
        see] my {toy}?" asked {N}. "No," said {F}, "but [I will help you look|we can look for it together|two
        can look better than
        one]." [So they|They] looked [near|all around] {place2}. They asked {G} the {gkind} too. "[I saw
        something {colour}
        {hiding}|Look {hiding}|There is something {hiding}]," said {G}. / {N} and {F} [ran|hurried] to look.
        [There|And there],
        {hiding}, was the {toy}! "[Hooray|You found it|Here it is]!" [shouted|cried] {N}. {He} [hugged
        {F}|jumped for joy|gave {F} a
        big hug] and said, "Thank you for your help." "[That is what friends are for|You are welcome|I am glad
        we found it]," said
        {F}."""
        + END,
    ),
    "sharing": (
        "sharing",
        START
        + DAY
        + """{his} {parent} gave {him} a {food}. It [looked|smelled] [so good|wonderful|very sweet]. "[This is
        all for me|I will eat it
        all by myself]," [thought|said] {N}. {He} [sat down|went to sit] [under a tree|on a bench|by the pond]
        {at}. / Then {F} the
        {fkind} came by. {F} looked at the {food}. "[I am so hungry|I did not eat today|That looks good]," said
        {F}. "[May I have a
        little bit|Will you share it with me|Can I have some]?" {N} [shook {his} head|held it close]. "No, it
        is mine!" {he} said. {F}
        [walked away with {fhis} head down|looked at the ground and went away|did not say a word and left]. /
        {N} took a bite, but it
        did not taste [good|so good|as good as before]. {He} thought of {F}, who was [all alone|hungry and
        sad]. {N} felt
        {sad}. {He} [ran after|went to find] {F}. "I am sorry," said {N}. "Here, half of it is for you." {F}
        [smiled|was so
        happy]. "Thank you, {N}!" {fhe} said. They [sat side by side and ate|shared the {food}], and [now it
        tasted [better|wonderful]|it
        was the best thing they had ever tasted]. / "[It tastes better when we share|Sharing is fun|Everything
        is better with
        a friend]," said {N}."""
        + END,
    ),
    "fear": (
        "being afraid of {fear}",
        START
        + """But {N} was afraid of {fear}. [{His} [heart|legs] [would shake|shook] when {he} thought about
        it.|Just the thought of it
        made {him} hide.|{He} did not want anyone to know.] / """
        + DAY
        + """{F} the {fkind} [came to visit.|asked {N} to come to {place}.|said, "Come with me to {place}!"] {N}
        [looked down|stopped].
        "I [can't|do not want to]," {he} said in a small voice. "I am afraid of {fear}." {F} did not laugh. "[I
        was afraid
        too, once|Everyone is afraid of something|It is all right to be afraid]," said {F}. "[Hold my hand|I
        will stay right beside
        you|We will do it together], and [take one small step|count to three|take a deep breath]." / {N} took a deep
        breath. [One, two, three.|First one step, then another.|{He} held on to {F} very tight.] [It was not so
        bad.|At first {his}
        knees shook, but then it got easier.|Nothing bad happened.] "[I did it|Look at me|I am not so afraid
        now]!" [cried|said] {N}.
        "[I knew you could|You are very brave|Well done]," said {F}. / {His} {parent} was [very |so ]proud.
        "[To be brave is to try even when
        you are afraid|You were brave today]," said {P}, and gave {N} a [big|warm] hug."""
        + END,
    ),
    "hurt": (
        "helping a little {fkind}",
        START
        + DAY
        + """{N} [was walking|went for a walk|was playing] {at} when {he} heard a [small|soft|sad]
        cry. {He} looked
        {hiding}. There was a little {fkind}. "[What is wrong|Are you hurt|Why do you cry]?" asked {N}. "[I hurt my
        leg|I fell and hurt my foot|My foot is stuck]," said the {fkind}. "My name is {F}, and I want to go
        home." / {N} [knelt
        down|came closer]. "[Do not be afraid|Do not worry]. I will help you," {he} said. {He} [washed the leg
        with cool water and
        tied a soft cloth around it|made a soft bed of leaves and brought water|carried {F} home [very|so] carefully].
        [{His} {parent} made warm soup.|{N} gave {F} a {food} to eat.|{N} told {F} a story to make {fhim}
        smile.] Every
        day {F} [got|felt] a little better. / At last {F} could [run|walk|jump] again. "Thank you, {N}," said
        {F}. "You were
        so kind to me." [A few days later|Not long after], {N} got lost {at2}. [{He} did not know
        the way home.|It was
        getting dark.] Then {he} heard a voice. It was {F}! "[Follow me|Come this way]," said {F}. "[You helped
        me, and now I help
        you|I know the way]." Soon {N} was safe at home."""
        + END,
    ),
    "build": (
        "building {build}",
        START
        + DAY
        + """{N} [wanted to build|had an idea: {he} would build|made a plan to build] {build}. {He}
        [found|got|took] some
        [wood|sticks|boards] and [a rope|some string|nails]. {He} worked all morning[ long|]. But when it was
        done, [it fell
        down|it broke|it came apart] with a [crash|bang|big crack]! "[I will never do it|It is too hard]," said
        {N}, and a tear
        ran down {his} cheek. / {F} the {fkind} [came by|saw it]. "[Do not give up|Try again|Let us look at it
        together]," said
        {F}. "[I will hold the wood while you tie the rope|It only needs to be stronger|We can start again, bit
        by bit]." So they
        tried again. {F} held the [wood|sticks], and {N} tied the knots. [They worked slowly and carefully.|They sang
        a song while they worked.] / When the sun was low, it was done, and it did not fall down. "[We did
        it|Look how strong it
        is|It works]!" [shouted|cried] {N}. {His} {parent} came to see it and [clapped|smiled]. "[You did not
        give up|That is good
        work]," said {P}. {N} and {F} [played with it until dark|were very proud of it]."""
        + END,
    ),
    "newfriend": (
        "making a new friend",
        START
        + """[But {N} had no one to play with.|But {N} was often alone.] [{He} wished for a friend.|Every night
        {he} wished for
        a friend.] / """
        + DAY
        + """a {ftrait} {fkind} [moved to|came to live near] {place}. {Fhis} name was {F}. {N} wanted to say
        hello, but {he} felt
        [shy|too shy]. {He} [watched from behind a tree|stood by the gate and said nothing]. {F} [sat
        alone|looked shy too|played alone with
        a {toy}]. / "[If we are both shy, we will never be friends|One of us must say hello]," thought {N}.
        {He} [took a
        deep breath|walked over] and said, "Hello. I am {N}. Do you like {game}?" {F} looked up and
        [smiled|smiled a big smile].
        "[Yes, I love it|I do|I like it very much]," said {F}. "Do you want to play with me?" / They [spent the
        whole day|played]
        together {at}. First came {game}, and then {game2}. {N} [showed {F} the best place to hide|shared
        {his} {food} with
        {F}], and {F} [let {him} play with the {toy}|told funny stories]. When it was time to go home, {F}
        asked, "[Will you come back
        tomorrow|Can we play again]?" "[Of course|Yes]!" said {N}. {He} was not lonely anymore."""
        + END,
    ),
    "storm": (
        "a big storm",
        START
        + DAY
        + """{N} and {F} the {fkind} were playing {at}. They loved {game}. [All at once|Suddenly] the sky
        [grew|turned] dark. The
        wind began to blow, and [rain fell down|big drops of rain fell]. "[We must find a dry place|Let us run
        home]!" said
        {F}. / They ran [as fast as they could|hand in hand], but the path was [wet|full of mud]. [Boom! went the
        thunder.|The thunder went boom.] {N} was [scared|afraid]. Then they saw a light in a window. It was the house of
        {G} the {gkind}.
        They knocked on the door. "[Come in, come in|You poor things, come in]!" said {G}. / {G} gave them
        [warm towels and a cup of
        hot milk|hot soup and soft blankets|a warm place by the fire]. [{Ghe} told them an old story|They sang
        songs together] while
        the rain tapped on the roof. [Soon they were not afraid at all.|{N} forgot all about the thunder.] /
        After a while the rain
        stopped, and the sun came out. "Look, a rainbow!" [cried|said] {N}. It was red and yellow and blue,
        [right over|high above]
        {place}. They thanked {G} and went home. The next day they [brought {G} a {food}|came back with flowers
        for {G}] to say thank
        you."""
        + END,
    ),
    "truth": (
        "telling the truth",
        START
        + DAY
        + """{N} was playing [inside|in the house] with a {thing}. [{He} knew that it was not allowed.|"Be
        careful," {his}
        {parent} had said.] {He} threw it up in the air, and it hit [the blue vase|{P}'s best cup|the lamp].
        Crash! It broke
        into many pieces. / {N} was scared. {He} [hid the pieces {hiding}|put the pieces in a bag and hid it].
        When {his} {parent} came home,
        {phe} asked, "[What happened here|Do you know what made that noise|Did something break]?" "I do not
        know," said {N}[.|, and
        {he} looked at the floor.] But {his} tummy felt [bad|funny]. {He} could not eat. {He} could not sleep.
        / {N} told {F} the
        {fkind} about it. "[You should tell the truth|Just say what happened]," said {F}. "[You will feel
        better|It is never too late to be
        honest]." So {N} went to {his} {parent}. "I broke it," {he} said, "and then I told a lie. I am so sorry." {P}
        [was quiet for a moment|looked at {him}]. Then {phe} [hugged {N}|took {N} in {phis} arms]. "[Thank you
        for telling me|I am glad you told
        me the truth]," said {P}. "[A cup is only a cup|Things can be fixed], but the truth is
        [precious|important]." / Together they [cleaned up|glued
        the pieces]. {N} felt [light|much better]. [From then on, {he} always told the truth.|{He} slept very
        well that night.]"""
        + END,
    ),
    "wish": (
        "a magic {thing}",
        START
        + DAY
        + """{N} found a {toy} {hiding}. [When {he} touched it, it began to shine.|It was warm and it
        [shone|glowed] like a star.] "I am a magic
        {thing}," it said. "You may have [one wish|three wishes]." {N} [could not believe it|thought and
        thought]. / "[I wish for a
        mountain of cake|I wish that I were as big as a house|I wish that all the toys were mine]!" said {N}.
        Poof! The wish came true.
        At first it was fun. But then [there was no room to play|it was too much|{N} had no one to play with]. {F} the
        {fkind} [could not come in|was sad and went away]. {N} sat there all alone and felt {sad}. / "[This is
        not what I
        wanted|I do not want this anymore]," said {N}. "I wish that everything were as it was before." Poof!
        Everything was the
        same again. {N} [ran to|called] {F}. "I am [so |]sorry," {he} said. "[A friend is better than all the
        toys in the world|I only need a
        good friend]." {F} [laughed|smiled] and said, "Then let us play." / {N} put the {thing} back where {he}
        had found it, so
        that someone else could [find it|learn from it too]."""
        + END,
    ),
    "race": (
        "a race",
        START
        + """{N} was not very fast. {F} the {fkind} was the fastest [in the land|of all], and {fhe} knew it.
        "[No one can beat me|I am
        faster than the wind]," {F} [liked to say|always said]. / """
        + DAY
        + """there was a big race from {place} to {place2}. [All the animals came.|Everyone came to watch.]
        "One, two, three, go!"
        called {G} the {gkind}. {F} ran so fast that {fhe} was soon far ahead. {N} was [the very last|far
        behind], but {he} did not stop. "[Step
        by step|One foot and then the other]," {he} said to {self}. / [Halfway along the road|Near the end],
        {F} [tripped over a
        root and fell|fell into the mud and got stuck]. "Ouch! Help!" {fhe} cried. The others ran by. Only {N}
        stopped. "Are you hurt?" {he} said, and helped {F} up. "[But now you can not win|Why did you stop]?"
        asked {F}. "[You needed
        help|Winning is not so important]," said {N}. / They walked to the finish together. [Everyone clapped
        and cheered for
        them.|The others had won, but everyone cheered for {N}.] {G} gave {N} a {food} as a prize for [the
        kindest heart|being so kind]. {N}
        gave half of it to {F}. [After that, {F} did not boast anymore.|"You are the real winner," said {F}.]"""
        + END,
    ),
}
