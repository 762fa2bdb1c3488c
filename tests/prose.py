"""Honest prose, English and Chinese: what no reward may punish and no alarm may ring at."""

import functools

from lwz.data import embedded
from lwz.reward import length


@functools.cache
def documents(least=150):
  """Texts of the standard library's documentation with at least so many words."""
  found = [d.text for d in embedded.topics()]
  return tuple(dict.fromkeys(t for t in found if length.count_words(t) >= least))


ENGLISH = """\
My grandmother kept the keys of the lighthouse in a biscuit tin, under the recipes she never \
used. Nobody had lit the lamp since the harbour board put a diesel beacon on the breakwater, but \
every spring she climbed the hundred and twelve steps with a bucket and a cloth, and washed the \
salt from the glass. When I asked her why, she said that a thing does not stop being true because \
it has stopped being useful.

I was nine that summer, and sure that usefulness was the whole of virtue. I had a list of jobs. I \
weeded the path, counted the hens, carried letters down to the post office, where Mr. Alder \
weighed them on brass scales and told me which countries were at war. In the evening I read the \
list aloud and my grandmother nodded at each line as though I were reciting the names of saints.

The storm came on the second of September. It took the roof of the boathouse first, then the \
wires, and with the wires went the beacon on the breakwater. From the kitchen we could see two \
small lights far out beyond the bar, rising and vanishing: the Brennan boys, who had gone for \
mackerel against all advice. My grandmother looked at them for about as long as it takes to say \
grace. Then she fetched the tin.

There was oil in the shed, put by for lamps nobody owned any more. We carried it up in jam \
kettles, two trips for her, five for me, with the wind leaning on the tower until the stair \
itself seemed to breathe. She trimmed the wick by touch. The first match blew out, and the \
second; she cupped the third inside her hat. What I remember is not the flame but the glass, \
washed every April for no reason, and how the light went through it without meeting a single \
grain of salt.

They came in a little after two. Their mother walked up the hill next morning with a ham, and the \
harbour board, some weeks later, with a certificate in a frame. My grandmother used the frame for \
a photograph of a dog. She put the keys back into the tin and the tin beneath the recipes, and in \
the spring, when the worst of the weather was over, she asked me to hold the bucket.

I have lived in cities since, among people whose every object earns its keep. Now and then one of \
them asks about the cloth that hangs beside my study window, and why I trouble to polish a pane \
which looks out on nothing but a wall. I generally say something about dust. It is easier than \
explaining that I am waiting for a night on which somebody, a long way off, will need the wall to \
shine.
"""

CHINESE = """\
外婆家的院子里有一口老井，井沿被绳子磨出了一道道深深的沟。小时候我总喜欢趴在那里往下看，看见自己的脸在黑黑的\
水面上晃动，像另外一个住在地底下的孩子。外婆从灶房里探出头来喊我，说井里住着龙王，再看下去就要被请去做客了。\
我既害怕又盼望，于是每天都偷偷去等那张请帖。

村子不大，一条石板路从东头走到西头，用不了一顿饭的工夫。路边住着木匠老周，他的铺子门口永远堆着刨花，踩上去软\
软的，带着松树的香味。老周不爱说话，手却极巧，给邻居家打的柜子三十年没有走过样。他告诉我，做木头活最要紧的是等，\
木料要放在屋檐下吹够三个夏天，急不得，急了将来就会裂。

到了秋天，晒谷场便成了全村最热闹的地方。大人们忙着翻晒稻谷，孩子们在草垛之间捉迷藏，天黑了也不肯回家。有一年收\
成特别好，村长请来了县里的放映队，白色的幕布挂在两棵槐树中间，风一吹，画面上的人就跟着摇摇摆摆。那晚演的是什么\
故事，我早已忘得干干净净，只记得外婆把我裹在她的棉袄里，后半场我睡着了。

后来我去城里念书，假期越来越短，回去的次数也就一年比一年少。自来水管铺进村子那年，井口盖上了一块水泥板，据说是\
怕小孩掉下去。外婆在电话里说起这件事，语气平平淡淡，末了却添上一句：水还是甜的，可惜没人喝了。我握着听筒，半天\
不知道该回答什么。

去年冬天我带着女儿回到那座院子。房子空了许久，墙角长出一棵不知名的小树，倒也精神。女儿绕着水泥板走了几圈，问我\
下面藏着什么。我想了想，告诉她：下面住着一位龙王，脾气很好，只是请客的帖子写得太慢。她立刻蹲下身，把耳朵贴在冰\
凉的石头上，认认真真地听了起来。

回城的路上，车窗外的田野一片一片向后退去，老周的铺子变成了快递站，晒谷场上停满了汽车。我并不觉得难过。木料总要\
等够三个夏天，故事也一样；有些话当时听不懂，放在心里慢慢风干，等到有一天忽然派上用场，才明白它从来没有裂开过。
"""

REPORT_CHINESE = """\
城市内涝治理需要从单一的排水思路转向系统治理。过去二十年，许多城市把资金主要投向地下管网，管径越修越大，积水却没\
有明显减少。究其原因，一方面是不透水地面迅速扩张，雨水失去了下渗的空间；另一方面，河道和湖泊被挤占，原有的调蓄能\
力大幅下降。当短时间的强降雨来临，再粗的管道也难以及时排走所有的水。

海绵城市建设提供了另一种选择。绿色屋顶、透水铺装和下凹式绿地能够在源头截留一部分雨水，延缓洪峰到达的时间。试点地\
区的监测数据显示，改造后的小区年径流总量控制率平均提高了约三成，夏季地表温度也略有降低。不过，这些设施的效果取决\
于日常维护，如果落叶堵塞了进水口，下渗速度很快就会退回原来的水平。

资金来源是第二个难点。试点期间，中央财政承担了相当比例的投入，试点结束以后，地方政府普遍感到压力。有专家建议按照\
不透水面积征收雨水排放费，让开发单位分担成本；也有人担心此举会推高房价，最终仍由居民买单。从国外经验看，收费标准\
如果设计得足够透明，并允许业主通过自建蓄水设施获得减免，社会接受程度会逐步上升。

此外，部门之间的协调同样不可忽视。道路归交通部门，绿地归园林部门，管网归水务部门，一场暴雨往往要牵动五六家单位。\
若没有统一的数据平台，谁都说不清积水点究竟卡在哪个环节。近年来，几座沿海城市尝试成立专门的排水调度中心，把雨量、\
水位和泵站运行情况汇总到同一张图上，应急响应时间因此缩短了一半左右。
"""
